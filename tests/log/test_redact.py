"""Secrets leave, everything else stays, and no text makes it slow."""

from __future__ import annotations

import base64
import hashlib
import statistics
import time
import uuid

import pytest

from agentos_jupyter.redact import PATTERNS, Redactor, token

HEX = hashlib.sha256(b"x").hexdigest()
ALNUM = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC2dE3f"
SECRETS = {
    "api-key": [
        "sk-" + ALNUM,
        "sk-proj-" + ALNUM + "_-x",
        "sk-ant-api03-" + ALNUM,
        "sk-or-v1-" + HEX,
        "sk-" + HEX[:32],
    ],
    "github-token": ["ghp_" + ALNUM[:36], "github_pat_" + ALNUM + "_" + ALNUM],
    "aws-key": ["AKIA" + "ABCDEFGH12345678"],
    "slack-token": ["xoxb-123456789012-" + ALNUM],
    "google-key": ["AIza" + ALNUM[:35]],
    "jwt": [f"eyJ{ALNUM}.eyJ{ALNUM}.{ALNUM}"],
    "gitlab-token": ["glpat-" + ALNUM[:20]],
    "hugging-face-token": ["hf_" + ALNUM[:34]],
}
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join([ALNUM] * 8) + "\n-----END RSA PRIVATE KEY-----"
redactor = Redactor()


@pytest.mark.parametrize(("kind", "secret"), [(kind, secret) for kind, list_ in SECRETS.items() for secret in list_])
@pytest.mark.parametrize("around", ["{}", "key={}", "'{}',", "export X={}\n", '{{"k":"{}"}}', "see {}."])
def test_a_known_format_is_replaced_and_nothing_of_it_stays(kind: str, secret: str, around: str) -> None:
    clean = redactor.text(around.format(secret))
    assert f"[redacted:{kind}]" in clean
    assert secret[-12:] not in clean


@pytest.mark.parametrize("pem", [PEM, PEM.replace("\n", "\\n"), PEM[: len(PEM) // 2], PEM.replace("RSA ", "OPENSSH ")])
def test_a_private_key_goes_whole_escaped_or_cut(pem: str) -> None:
    clean = redactor.text(f"before {pem}\nafter it, prose.")
    assert ALNUM not in clean
    assert clean.startswith("before [redacted:private-key]")
    assert "after it, prose." in clean


def test_only_the_secret_part_goes() -> None:
    assert redactor.text(f"Authorization: Bearer {ALNUM}") == "Authorization: Bearer [redacted:bearer]"
    assert redactor.text("authorization: Basic dXNlcjpwYXNz") == "authorization: Basic [redacted:authorization]"
    assert redactor.text("git clone https://me:hunter2@example.org/x") == (
        "git clone https://me:[redacted:password]@example.org/x"
    )
    assert redactor.text(f"aws_secret_access_key = {ALNUM}") == "aws_secret_access_key = [redacted:aws-secret]"


@pytest.mark.parametrize(
    "innocent",
    [
        hashlib.sha1(b"commit").hexdigest(),
        HEX,
        f"sha256:{HEX}",
        str(uuid.UUID(int=5)),
        base64.b64encode(bytes(range(256)) * 400).decode(),
        "data:image/png;base64," + base64.b64encode(hashlib.shake_256(b"i").digest(200_000)).decode(),
        '<div class="sk-toggleable__label-arrow sk-container-id-1 sk-estimator-doc-link-fitted-something">',
        "task-management-system-of-the-second-generation",
        "the bearer of bad news responsibilities",
        "http://localhost:8888/lab?token=", "postgres://user:${PASSWORD}@db/x", "http://a.example:80/x@y",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "eyJ is how base64 JSON begins", "A eyJhbGciOi.eyJ.x", "call-17", "ghp_short", "AKIA is a prefix",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays_the_same_object(innocent: str) -> None:
    assert redactor.text(innocent) is innocent


def test_key_values_go_from_strings_and_keys_at_any_depth() -> None:
    own = Redactor(exact=["correct horse", "short", "correct horse battery"])
    data = {"a": ["x correct horse battery y", {"correct horse": ("short", 1, None)}], "b": "correct horse"}
    assert own.data(data) == {
        "a": ["x [redacted:key] y", {"[redacted:key]": ("short", 1, None)}],
        "b": "[redacted:key]",
    }
    assert own.data({"correct horse": 1, "correct horse battery": 2}) == {"[redacted:key]": 1, "[redacted:key] (2)": 2}
    assert Redactor().extended(exact=["correct horse"]).text("correct horse") == "[redacted:key]"


def test_clean_data_is_the_same_object_and_redacting_twice_changes_nothing() -> None:
    data = {"a": [1, 2.5, None, True, "text", ("x",)], "b": {"c": "d" * 100}}
    assert redactor.data(data) is data
    once = redactor.text(" ".join(secret for list_ in SECRETS.values() for secret in list_) + PEM)
    assert redactor.text(once) == once


def test_data_nested_without_end_fails_closed() -> None:
    value: list[object] = ["sk-" + ALNUM]
    for _ in range(5000):
        value = [value]
    assert "sk-" not in str(_innermost(redactor.data(value)))


def _innermost(value: object) -> object:
    while isinstance(value, list):
        value = value[0]
    return value


def test_skills_add_patterns_as_data() -> None:
    own = redactor.extended([token("acme-key", "acme_", "a-z0-9", 8)])
    assert own.text("use acme_abcdefgh12 now") == "use [redacted:acme-key] now"
    for bad in (("acme", "ac"), ("acme", "acme_", "(a+)+"), ("Acme!", "acme_")):
        with pytest.raises(ValueError, match="pattern"):
            token(*bad)


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\n" + "A" * 60 + "\n", "sk-", "sk-a", "A", "-", " ",
        " sk-aaaaaaaaaaaa1", "eyJ", ".eyJaaaaaaaa", "://a:", "://", "bearer ", "Bearer aaaaaaaaaaaaaaaaaaa ", "ghp_",
        "AKIA", "AIza", "xoxb-", "authorization: basic ", "secret_access_key=", "hooks.slack.com/services/",
        "github_pat_a", "PRIVATE KEY sk- .eyJ :// earer",
    ],
)  # fmt: skip
def test_five_megabytes_of_anything_take_a_moment(piece: str) -> None:
    text = piece * (5_000_000 // len(piece))
    start = time.perf_counter()
    redactor.text(text)
    assert time.perf_counter() - start < 5


def test_clean_text_costs_next_to_nothing() -> None:
    text = ("def f(x):\n    return x + 1  # a line of code\n" * 60)[:2000]
    times = []
    for _ in range(200):
        start = time.perf_counter()
        redactor.text(text)
        times.append(time.perf_counter() - start)
    assert statistics.median(times) < 50e-6 * 4  # the target is 50 µs; four times that for a busy machine


def test_every_shipped_pattern_names_a_hint_of_itself() -> None:
    assert all(pattern.hints and all(pattern.hints) for pattern in PATTERNS)
