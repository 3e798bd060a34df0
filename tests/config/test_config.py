"""agentos.yaml: what it may say, and what every mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentos_jupyter import config
from agentos_jupyter.errors import ConfigError, WorkspaceUntrusted

TRUSTED = {"AGENTOS_TRUST": "1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agentos.yaml"


def test_no_file_is_needed(tmp_path: Path) -> None:
    settings = config.load(tmp_path, {})
    assert (settings.model, settings.roles, settings.context) == (None, {}, "aos-context")
    assert settings.protected == ("agentos.yaml", "skills", ".agents/skills", ".claude/skills")


def test_a_whole_file(file: Path) -> None:
    file.write_text("""
model: openrouter/auto
roles:
  orchestrator: {model: lab/big, fallbacks: [openrouter/auto, scripted:demo]}
  compactor: lab/small
providers:
  lab:
    base_url: https://lab.example/v1/
    key: ${LAB_API_KEY}
    headers: {X-Team: agents}
    models:
      big: {window: 200k, max_output: 8k, price_input: 3, price_output: 15.0, price_cached: 0.3}
limits: {turns: 20, wall: 10m, memory: 4G, retry_status: [429]}
context: aos-context
agent: {name: helper, system: Be brief.}
protect: [data/golden, ./secrets/]
agents: agents
tools: tools/
""")
    settings = config.load(file.parent, TRUSTED)
    assert settings.roles["orchestrator"].fallbacks == ("openrouter/auto", "scripted:demo")
    assert settings.roles["compactor"].model == "lab/small"
    assert settings.providers["lab"].base_url == "https://lab.example/v1"
    assert settings.providers["lab"].models["big"].window == 200_000
    assert settings.protected[4:] == ("data/golden", "secrets", "agents", "tools")
    limits = config.limits(settings, {"turns": 3})
    assert (limits.turns, limits.wall, limits.memory, limits.retry_status) == (3, 600, 4 * 2**30, (429,))


WRONG = {
    "modle: x": "1:1: no key named 'modle'; did you mean 'model'? Known: agent,",
    "model: 3": "1:8: model: input should be a valid string",
    "model: ''": "1:8: model: string should have at least 1 character",
    "a: 1\n  b: 2": "2:4: not valid YAML",
    "- a": "1:1: the file must be a mapping",
    "just text": "1:1: the file must be a mapping",
    "workspace: /": "1:1: no key named 'workspace'",
    "roles:\n  worker: {modl: x}": "2:12: no key named 'modl'; did you mean 'model'?",
    "roles:\n  worker: 3": "2:11: roles.worker: input should be a valid dictionary",
    "roles:\n  worker: {fallbacks: [a/b]}": "2:11: roles.worker.model: field required",
    "roles:\n  worker: {model: a/b, fallbacks: x}": "2:35: roles.worker.fallbacks:",
    "limits: {turns: abc}": "1:17: The limit 'turns' is in count: write 50 or 400k, not 'abc'.",
    "limits: {turn: 3}": "1:10: no limit named 'turn'; did you mean 'turns'?",
    "limits: {turns: 0}": "1:17: The limit 'turns' must be at least 1",
    "limits: {wall: -1}": "1:16: The limit 'wall' is in seconds",
    "limits: {wall: .nan}": "1:16: The limit 'wall' is in seconds",
    "limits: {wall: .inf}": "1:16: The limit 'wall' is in seconds",
    "limits: {wall: yes}": "1:16: The limit 'wall' is in seconds",
    "limits: {memory: 2X}": "1:18: The limit 'memory' is in bytes: write 65536, 64k or 2G",
    "limits: {retry_status: 429}": "1:24: The limit 'retry_status' is a list of HTTP status codes",
    "limits: {retry_status: [200]}": "1:24: The limit 'retry_status' is a list of HTTP status codes",
    "limits: 3": "1:9: limits: input should be a valid dictionary",
    "providers: {x: {base_url: ftp://a}}": "1:27: providers.x.base_url: a base URL looks like https://host/v1.",
    "providers: {x: {base_url: 'http://me:pw@a/v1'}}": "1:27: providers.x.base_url: a base URL has no user",
    "providers: {x: {key: sk-123}}": "1:22: providers.x.key: a key does not belong in a file that agents can read",
    "providers: {x: {headers: {X-Api-Key: abc}}}": "1:26: providers.x.headers: the header looks secret",
    "providers: {x: {headers: {'X\\n': abc}}}": "providers.x.headers: a header has a plain name",
    "providers: {x: {models: {m: {window: big}}}}": "1:38: providers.x.models.m.window: input should be a valid integer",
    "protect: [../other]": "1:10: protect: a path inside the workspace is meant",
    "agents: /etc": "1:9: agents: a path inside the workspace is meant",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_named_with_file_line_column_and_cure(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(file.parent, TRUSTED)
    said = str(caught.value)
    assert said.startswith(f"{file}:") and WRONG[text] in said


@pytest.mark.parametrize(
    "secret", ["key: sk-12345678", "headers: {X-Api-Key: sk-12345678}", "base_url: 'http://u:sk-12345678@h/'"]
)
def test_a_secret_in_the_file_is_not_repeated(file: Path, secret: str) -> None:
    file.write_text(f"providers: {{x: {{{secret}}}}}")
    with pytest.raises(ConfigError) as caught:
        config.load(file.parent, TRUSTED)
    assert "sk-12345678" not in str(caught.value)


UNTRUSTED = {
    "providers: {}": "1:1: `providers`",
    "model: a/b\nproviders:\n  x: {base_url: 'http://h/v1'}": "2:1: `providers`",
    "agent:\n  system: 'say ${HOME}'": "2:11: a ${VARIABLE}",
    "x:\n- base_url: http://h": "2:3: `base_url`",
    "${A}: 1": "1:1: a ${VARIABLE}",
}


@pytest.mark.parametrize("environ", [{}, {"AGENTOS_TRUST": ""}, {"AGENTOS_TRUST": "0"}, {"AGENTOS_TRUST": "yes"}])
@pytest.mark.parametrize("text", UNTRUSTED)
def test_a_file_that_could_send_something_out_needs_trust(file: Path, text: str, environ: dict[str, str]) -> None:
    file.write_text(text)
    with pytest.raises(WorkspaceUntrusted) as caught:
        config.load(file.parent, environ)
    assert f"{file}:{UNTRUSTED[text]}" in str(caught.value) and "AGENTOS_TRUST=1" in str(caught.value)


def test_an_alias_does_not_hide_what_needs_trust(file: Path) -> None:
    file.write_text("agent: {name: &n '${X}', system: *n}")
    with pytest.raises(WorkspaceUntrusted):
        config.load(file.parent, {})


def test_the_shipped_limits_are_whole(tmp_path: Path) -> None:
    limits = config.limits(config.load(tmp_path, {}))
    assert limits.lease == 30
    assert 429 in limits.retry_status
    assert limits.output < limits.output_full < limits.output_flood


def test_limits_of_a_dispatch_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no limit named 'truns'; did you mean 'turns'"):
        config.limits(config.load(tmp_path, {}), {"truns": 3})
