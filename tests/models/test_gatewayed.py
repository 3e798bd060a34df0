"""Names that lead to the gateway, and exactly what goes with each call."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentos_jupyter import config, keys, paths
from agentos_jupyter.errors import ConfigError, ModelKeyMissing, ModelNotFound, ModelUnavailable
from agentos_jupyter.models import Models
from agentos_jupyter.models.client import DirectModel
from agentos_jupyter.models.gatewayed import RemoteModel
from agentos_jupyter.models.spoken import PROVIDERS, SPECIAL, needs, variables

PACKAGE = importlib.util.find_spec("litellm")
assert PACKAGE is not None


class Nowhere:
    """A channel that nothing is asked through: what would be sent is looked at."""

    async def stream(self, method: str, params: Mapping[str, Any], body: bytes) -> AsyncGenerator[dict[str, Any], None]:
        raise ModelUnavailable("nowhere")
        yield {}


def models(workspace: Path, yaml: str = "", **environ: str) -> Models:
    (workspace / "agentos.yaml").write_text(yaml)
    known = {"AGENTOS_TRUST": "1", **environ}
    settings = config.load(workspace, known)
    return Models(settings, known, config.limits(settings), channel=Nowhere())


def remote(found: Models, name: str) -> RemoteModel:
    model = found.resolve(name)[0]
    assert isinstance(model, RemoteModel)
    return model


def test_the_providers_are_those_of_the_installed_litellm() -> None:
    """When litellm learned new ones: write them into models/spoken.py."""
    code = (
        "import json, os; os.environ.update(LITELLM_LOCAL_MODEL_COST_MAP='True', LITELLM_MODE='PRODUCTION'); import litellm;"
        "print(json.dumps([str(getattr(each, 'value', each)) for each in litellm.provider_list]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.splitlines()[-1])) == PROVIDERS


def test_the_keys_of_providers_that_litellm_describes_as_data_have_the_same_names() -> None:
    folder = Path(next(iter(PACKAGE.submodule_search_locations or ())))
    described = json.loads((folder / "llms" / "openai_like" / "providers.json").read_text())
    wrong = {
        name: (entry["api_key_env"], needs(name).key)
        for name, entry in described.items()
        if name in PROVIDERS and not needs(name).keyless and entry["api_key_env"] not in needs(name).key
    }
    assert not wrong


def test_every_special_provider_is_one_and_every_variable_is_offered_to_the_daemon() -> None:
    assert set(SPECIAL) <= PROVIDERS
    assert not [name for name in variables() if not keys.reaches(name)]


@pytest.mark.parametrize("name", ["litellm:anthropic/claude-x", "litellm:openai/gpt-x", "cohere_chat/command-r"])
def test_a_name_that_litellm_knows_goes_through_the_gateway(workspace: Path, name: str) -> None:
    environ = {"ANTHROPIC_API_KEY": "a-key", "OPENAI_API_KEY": "o-key", "COHERE_API_KEY": "c-key"}
    model = remote(models(workspace, **environ), name)
    assert model.name == name
    assert model._remote.params["model"] == name.removeprefix("litellm:")
    [key] = model._remote.secrets.values()
    assert key == f"{name.removeprefix('litellm:')[0]}-key", "only its own key goes with a call"


def test_a_provider_that_is_asked_directly_stays_direct(workspace: Path) -> None:
    found = models(workspace, "providers: {lab: {base_url: 'http://h/v1'}}", MISTRAL_API_KEY="k")
    assert isinstance(found.resolve("mistral/m")[0], DirectModel)
    assert isinstance(found.resolve("lab/m")[0], DirectModel)


def test_agentos_yaml_may_describe_a_provider_of_litellm(workspace: Path) -> None:
    yaml = """
        providers:
          cohere_chat:
            rate: {requests: 7}
            headers: {X-Team: blue}
            models: {command-r: {window: 9k, max_output: 1k}}
    """
    model = remote(models(workspace, yaml, COHERE_API_KEY="c"), "cohere_chat/command-r")
    assert model.window == 9_000
    assert model.limiter is not None and model.limiter.rate.requests == 7
    assert model._remote.params["extra"] == {"max_tokens": 1000}
    assert model._remote.secrets == {"api_key": "c", "extra_headers": {"X-Team": "blue"}}


def test_a_rate_is_shared_with_the_direct_way(workspace: Path) -> None:
    found = models(workspace, ANTHROPIC_API_KEY="k")
    direct = found.resolve("anthropic/x")[0]
    assert isinstance(direct, DirectModel)
    assert remote(found, "litellm:anthropic/x").limiter is direct.limiter


def test_a_file_that_moves_a_provider_does_not_get_its_key(workspace: Path) -> None:
    moved = "providers: {anthropic: {base_url: 'http://elsewhere.example'}}"
    model = remote(models(workspace, moved, ANTHROPIC_API_KEY="k"), "litellm:anthropic/x")
    assert model._remote.secrets == {"api_base": "http://elsewhere.example"}
    moved = "providers: {bedrock: {base_url: 'http://elsewhere.example'}}"
    model = remote(models(workspace, moved, AWS_SECRET_ACCESS_KEY="s"), "litellm:bedrock/x")
    assert model._remote.secrets == {"api_base": "http://elsewhere.example"}


def test_a_provider_of_several_variables_gets_exactly_its_own(workspace: Path) -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
        "AZURE_API_KEY": "azure",
        "AZURE_API_BASE": "https://me.openai.azure.com",
        "AZURE_API_VERSION": "2024-10-21",
        "OPENAI_API_KEY": "other",
    }
    found = models(workspace, **environ)
    assert remote(found, "bedrock/anthropic.claude-x")._remote.secrets == {
        "aws_access_key_id": "id",
        "aws_secret_access_key": "secret",
        "aws_region_name": "eu-west-1",
    }
    assert remote(found, "azure/mine")._remote.secrets == {
        "api_key": "azure",
        "api_base": "https://me.openai.azure.com",
        "api_version": "2024-10-21",
    }


def test_every_value_of_a_key_is_redacted(workspace: Path) -> None:
    found = models(workspace, AWS_SECRET_ACCESS_KEY="s-e-c-r-e-t", AWS_REGION="eu-west-1", REPLICATE_API_TOKEN="r8_x")
    assert set(found.secrets) == {"s-e-c-r-e-t", "r8_x"}


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("litellm:replicate/x", ModelKeyMissing, "set REPLICATE_API_KEY"),
        ("azure/x", ModelKeyMissing, "set AZURE_API_KEY"),
        ("vertex_ai/x", ConfigError, "needs VERTEXAI_PROJECT"),
        ("litellm:lab/x", ModelNotFound, "litellm has no provider 'lab'"),
        ("litellm:huggingface/https://elsewhere.example", ModelNotFound, "an address stands in HUGGINGFACE_BASE_URL"),
        ("oobabooga/http://127.0.0.1:9", ModelNotFound, "because the key goes there"),
        ("bedrock/x?y#z", ModelNotFound, "is no model's id"),
        ("python:os:system", ModelNotFound, "list it under `python_models:`"),
    ],
)
def test_what_is_missing_is_said(workspace: Path, name: str, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence.replace("(", r"\(")):
        models(workspace).resolve(name)


def test_only_the_persons_own_configuration_names_functions(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = paths.user_config_dir() / "config.yaml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("python_models: [mine:answer]\npython_path: [~/models]\n")
    found = models(workspace)
    assert remote(found, "python:mine:answer")._remote.params["path"] == [str(Path("~/models").expanduser())]
    with pytest.raises(ModelNotFound, match="did you mean 'mine:answer'"):
        found.resolve("python:mine:answr")
    with pytest.raises(ConfigError, match="no key named 'python_models'"):
        models(workspace, "python_models: [yours:answer]")


def test_without_a_gateway_it_is_said(workspace: Path) -> None:
    settings = config.load(workspace, {})
    found = Models(settings, {"ANTHROPIC_API_KEY": "k"}, config.limits(settings))
    with pytest.raises(ModelUnavailable, match="only a daemon runs"):
        found.resolve("litellm:anthropic/x")
