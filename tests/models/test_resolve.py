"""Names, roles, defaults and keys."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentos_jupyter import config
from agentos_jupyter.errors import AgentOSError, ConfigError, ModelKeyMissing, ModelNotFound, WorkspaceUntrusted
from agentos_jupyter.models import Models
from agentos_jupyter.models.client import DirectModel, proxy_for
from agentos_jupyter.models.providers import KNOWN


def models(workspace: Path, text: str = "", **environ: str) -> Models:
    (workspace / "agentos.yaml").write_text(text)
    settings = config.load(workspace, {"AGENTOS_TRUST": "1"})
    return Models(settings, environ, config.limits(settings))


def endpoint(found: Models, name: str | None = None) -> tuple[str, str, str | None]:
    model = found.resolve(name)[0]
    assert isinstance(model, DirectModel)
    return model._endpoint.base_url, model._endpoint.model, model._endpoint.key


ROUTER = "https://openrouter.ai/api/v1"
NAMES = {
    "openrouter/auto": (ROUTER, "openrouter/auto"),
    "openrouter/openrouter/auto": (ROUTER, "openrouter/auto"),
    "openrouter/anthropic/claude-x": (ROUTER, "anthropic/claude-x"),
    "openai/gpt-x": ("https://api.openai.com/v1", "gpt-x"),
    "ollama/qwen3:8b": ("http://127.0.0.1:11434/v1", "qwen3:8b"),
    "huggingface/org/model:fast": ("https://router.huggingface.co/v1", "org/model:fast"),
}


def test_a_workspace_may_not_name_a_script_outside_of_it(workspace: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.yaml"
    outside.write_text("rules: [{say: hi}]")
    (workspace / "link.yaml").symlink_to(outside)
    (workspace / "inside.yaml").write_text("rules: [{say: hi}]")
    for file in (str(outside), "../secret.yaml", "link.yaml"):
        with pytest.raises(WorkspaceUntrusted, match=r"outside of the workspace.*AGENTOS_TRUST=1"):
            models(workspace, f"model: scripted:{file}").resolve()
    named = f"scripted:{outside}"
    for environ in ({"AGENTOS_TRUST": "1"}, {"AGENTOS_MODEL": named}):
        assert models(workspace, f"model: {named}", **environ).resolve()[0].name == named
    for inside in ("inside.yaml", str(workspace / "inside.yaml")):
        assert models(workspace, f"model: scripted:{inside}").resolve()[0].scripted


@pytest.mark.parametrize("name", NAMES)
def test_names_become_endpoints(workspace: Path, name: str) -> None:
    keys = {provider.key: "k" * 20 for provider in KNOWN.values()}
    assert endpoint(models(workspace, **keys), name)[:2] == NAMES[name]


def test_the_table_is_sound() -> None:
    for name, provider in KNOWN.items():
        assert re.fullmatch(r"[a-z]+", name)
        assert config.endpoint(provider.base_url) == provider.base_url
        assert provider.base_url.startswith("http://127.0.0.1:" if provider.local else "https://")
        assert re.fullmatch(r"[A-Z]+_(API_KEY|TOKEN)", provider.key)


DEFAULTS = [
    ("", {}, "scripted:demo", "no model is configured"),
    ("", {"OPENAI_API_KEY": "k"}, "scripted:demo", "no model is configured"),
    ("", {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "gpt-x"}, "openai/gpt-x", "OPENAI_MODEL is set"),
    ("", {"OPENAI_BASE_URL": "http://h/v1", "OPENAI_MODEL": "x"}, "openai/x", "OPENAI_MODEL is set"),
    ("", {"OPENAI_API_KEY": "k", "OPENAI_MODEL": "x", "OPENROUTER_API_KEY": "k"}, "openrouter/auto", "OPENROUTER"),
    ("model: ollama/a", {"OPENROUTER_API_KEY": "k"}, "ollama/a", "model in agentos.yaml"),
    ("{model: ollama/a, roles: {orchestrator: ollama/b}}", {}, "ollama/b", "roles.orchestrator"),
    ("{model: ollama/a, roles: {orchestrator: ollama/b}}", {"AGENTOS_MODEL": "ollama/c"}, "ollama/c", "AGENTOS_MODEL"),
    ("roles: {worker: ollama/w}", {"AGENTOS_MODEL": "worker"}, "ollama/w", "AGENTOS_MODEL"),
]


@pytest.mark.parametrize("text, environ, name, why", DEFAULTS)
def test_the_default_is_chosen_in_order(
    workspace: Path, text: str, environ: dict[str, str], name: str, why: str
) -> None:
    choice = models(workspace, text, **environ).choice()
    assert choice.names == (name,) and why in choice.why


def test_a_name_asked_for_wins_over_everything(workspace: Path) -> None:
    found = models(workspace, "model: ollama/a", AGENTOS_MODEL="ollama/b")
    assert [model.name for model in found.resolve("ollama/c")] == ["ollama/c"]


def test_a_role_has_its_fallbacks_and_an_unwritten_role_the_default(workspace: Path) -> None:
    found = models(workspace, "roles: {worker: {model: ollama/a, fallbacks: [ollama/b, scripted:demo]}}")
    assert [model.name for model in found.resolve("worker")] == ["ollama/a", "ollama/b", "scripted:demo"]
    assert [model.name for model in found.resolve("compactor")] == ["scripted:demo"]


def test_a_short_name_stands_for_a_model_and_its_fallbacks_wherever_one_is_named(workspace: Path) -> None:
    text = (
        "{model: a, models: {a: {model: ollama/x, fallbacks: [ollama/y]}, b: ollama/z},"
        " roles: {worker: {model: b, fallbacks: [a, ollama/z]}}}"
    )
    found = models(workspace, text)
    assert [model.name for model in found.resolve()] == ["ollama/x", "ollama/y"]
    assert [model.name for model in found.resolve("worker")] == ["ollama/z", "ollama/x", "ollama/y"]
    assert [model.name for model in models(workspace, text, AGENTOS_MODEL="b").resolve()] == ["ollama/z"]
    assert {(each.name, each.role) for each in found.list()} >= {("ollama/x", "default"), ("ollama/z", "worker")}
    with pytest.raises(ConfigError, match="cannot name a model"):
        models(workspace, "models: {human: ollama/a}")
    with pytest.raises(ModelNotFound, match="did you mean 'careful'"):
        models(workspace, "models: {careful: ollama/a}").resolve("carefull")


WRONG = {
    "opnai/gpt": (ModelNotFound, "no provider named 'opnai'; did you mean 'openai'?"),
    "gpt-5": (ModelNotFound, "no model or role named 'gpt-5'"),
    "orchestrater": (ModelNotFound, "did you mean 'orchestrator'?"),
    "replay:x.jsonl": (ModelNotFound, "make one with `agentos record SESSION"),
    "python:a:b": (ModelNotFound, "No function may be a model yet: list it under `python_models:`"),
    "human:x": (ModelNotFound, "write `model: human`"),
    "litellm:anthropc/x": (ModelNotFound, "did you mean 'anthropic'?"),
    "bedrok/x": (ModelNotFound, "no provider named 'bedrok'; did you mean 'bedrock'?"),
    "watsonx/x": (ModelKeyMissing, "watsonx/x needs a key: set WATSONX_API_KEY"),
    "vertex_ai/x": (ConfigError, "vertex_ai/x needs VERTEXAI_PROJECT"),
    "litellm:x": (ModelNotFound, "A model is litellm:<provider>/<model id>"),
    "scriptd:x": (ModelNotFound, "no kind of model named 'scriptd'; did you mean 'scripted'?"),
    "scripted:nope.yaml": (ModelNotFound, "nope.yaml"),
    "openai/": (ModelNotFound, "A model is <provider>/<model id>"),
    "groq/x": (ModelKeyMissing, "groq/x needs a key: set GROQ_API_KEY"),
    "openrouter/auto": (ModelKeyMissing, "set OPENROUTER_API_KEY"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_name_is_answered_with_the_cure(workspace: Path, name: str) -> None:
    kind, sentence = WRONG[name]
    with pytest.raises(kind) as caught:
        models(workspace).resolve(name)
    assert sentence in str(caught.value)


def test_a_missing_key_names_the_alternatives(workspace: Path) -> None:
    with pytest.raises(ModelKeyMissing) as caught:
        models(workspace).resolve("groq/x")
    assert {"ollama/<model>", "OPENROUTER_API_KEY", "scripted:demo"} <= {
        word for word in ("ollama/<model>", "OPENROUTER_API_KEY", "scripted:demo") if word in str(caught.value)
    }
    assert caught.value.data["variable"] == "GROQ_API_KEY"


def test_a_base_url_of_the_environment_overrides(workspace: Path) -> None:
    found = models(workspace, OPENROUTER_BASE_URL="http://127.0.0.1:9/v1/", OPENROUTER_API_KEY="secret-key-1")
    assert endpoint(found, "openrouter/auto") == ("http://127.0.0.1:9/v1", "openrouter/auto", "secret-key-1")
    assert endpoint(models(workspace, OPENAI_BASE_URL="http://h/v1/chat/completions"), "openai/x")[0] == "http://h/v1"


def test_a_wrong_base_url_of_the_environment_is_named(workspace: Path) -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL: a base URL looks like https://host/v1"):
        models(workspace, OPENAI_BASE_URL="localhost:1234").resolve("openai/x")


LAB = "providers: {lab: {base_url: 'https://lab.example/v1', key: '${LAB_API_KEY}', headers: {X-Team: a}}}"


def test_a_provider_of_agentos_yaml_gets_its_own_key(workspace: Path) -> None:
    found = models(workspace, LAB, LAB_API_KEY="lab-key-123", OPENAI_API_KEY="other-key-1")
    assert endpoint(found, "lab/m") == ("https://lab.example/v1", "m", "lab-key-123")
    assert set(found.secrets) == {"lab-key-123", "other-key-1"}


def test_a_provider_may_not_read_any_variable(workspace: Path) -> None:
    text = LAB.replace("LAB_API_KEY", "AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match=r"may not read \$\{AWS_SECRET_ACCESS_KEY\}.*LAB_API_KEY") as caught:
        models(workspace, text, AWS_SECRET_ACCESS_KEY="hush-hush-hush").resolve("lab/m")
    assert "hush" not in str(caught.value)


def test_a_missing_variable_of_a_provider_is_named(workspace: Path) -> None:
    with pytest.raises(ModelKeyMissing, match="The provider 'lab' needs a key: set LAB_API_KEY"):
        models(workspace, LAB).resolve("lab/m")


def test_a_moved_provider_gets_a_key_only_by_name(workspace: Path) -> None:
    moved = "providers: {openai: {base_url: 'https://elsewhere.example/v1'%s}}"
    key = {"OPENAI_API_KEY": "the-openai-key"}
    assert endpoint(models(workspace, moved % "", **key), "openai/x")[2] is None
    assert endpoint(models(workspace, moved % ", key: '${OPENAI_API_KEY}'", **key), "openai/x")[2] == "the-openai-key"


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "schlüssel"])
def test_a_key_that_is_none_is_refused_without_showing_it(workspace: Path, value: str) -> None:
    with pytest.raises(ModelKeyMissing, match="GROQ_API_KEY holds something that is no key") as caught:
        models(workspace, GROQ_API_KEY=value).resolve("groq/x")
    assert value not in str(caught.value)


def test_a_key_may_come_later(workspace: Path) -> None:
    settings = config.load(workspace, {})
    environ: dict[str, str] = {}
    found = Models(settings, environ, config.limits(settings))
    with pytest.raises(AgentOSError):
        found.resolve("groq/x")
    environ["GROQ_API_KEY"] = "later-later"
    assert found.resolve("groq/x")[0].name == "groq/x"


def test_window_price_and_output_come_from_the_file(workspace: Path) -> None:
    about = "models: {m: {window: 32k, max_output: 4k, price_input: 1, price_output: 2.5}}"
    model = models(workspace, f"providers: {{lab: {{base_url: 'http://h/v1', {about}}}}}").resolve("lab/m")[0]
    assert isinstance(model, DirectModel)
    assert model.window == 32_000
    assert model._endpoint.extra == {"max_tokens": 4000}
    assert model.price is not None and model.price.output == 2.5


def test_the_list_says_what_is_ready_and_what_is_missing(workspace: Path) -> None:
    found = models(workspace, "roles: {worker: groq/x, reviewer: ollama/y}", AGENTOS_MODEL="scripted:nope.yaml")
    listed = {one.name: one for one in found.list()}
    assert (listed["groq/x"].role, listed["groq/x"].ready) == ("worker", False)
    assert "GROQ_API_KEY" in listed["groq/x"].reason
    assert listed["ollama/y"].ready
    assert listed["scripted:demo"].scripted and listed["scripted:demo"].ready
    assert not listed["scripted:nope.yaml"].ready and listed["scripted:nope.yaml"].role == "default"


@pytest.mark.parametrize(
    "url, no_proxy, proxy",
    [
        ("https://api.example.com/v1", "", "http://p:1"),
        ("http://api.example.com/v1", "", None),
        ("https://api.example.com/v1", "other,.example.com", None),
        ("https://api.example.com/v1", "*", None),
    ],
)
def test_a_proxy_is_used_for_https_alone(url: str, no_proxy: str, proxy: str | None) -> None:
    assert proxy_for(url, {"HTTPS_PROXY": "http://p:1", "NO_PROXY": no_proxy}) == proxy


def test_the_package_imports_nothing_heavy() -> None:
    code = "import sys, agentos_jupyter.models; print(*(m for m in ('aiohttp', 'yaml', 'pydantic', 'regex') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
