"""What a model takes and costs, out of the price map in litellm's package, which is searched and never imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentos_jupyter import config
from agentos_jupyter.models import Models, prices
from agentos_jupyter.models.client import DirectModel
from agentos_jupyter.models.prices import Price
from agentos_jupyter.records import Usage


def model(workspace: Path, name: str, yaml: str = "", **environ: str) -> DirectModel:
    (workspace / "agentos.yaml").write_text(yaml)
    known = {"AGENTOS_TRUST": "1", "OPENAI_API_KEY": "sk-x", "GEMINI_API_KEY": "sk-x", **environ}
    settings = config.load(workspace, known)
    found = Models(settings, known, config.limits(settings)).resolve(name)[0]
    assert isinstance(found, DirectModel)
    return found


def test_every_chat_model_of_the_map_is_found_as_the_map_has_it() -> None:
    file = prices._file()
    assert file is not None
    entries = {
        name: entry
        for name, entry in json.loads(file.read_text()).items()
        if entry.get("mode") == "chat" and isinstance(entry.get("max_input_tokens"), int)
    }
    assert len(entries) > 1_000
    for name in sorted(entries)[::17]:
        entry = entries[name]
        provider = entry["litellm_provider"]
        found = prices.facts(provider, name.removeprefix(f"{provider}/"))
        assert found.window == (entry["max_input_tokens"] or None), name
        if entry.get("input_cost_per_token") is not None and entry.get("output_cost_per_token") is not None:
            assert found.price is not None, name
            assert found.price.input == pytest.approx(entry["input_cost_per_token"] * 1e6), name


def test_a_well_known_model_has_window_and_price(workspace: Path) -> None:
    found = model(workspace, "openai/gpt-4o")
    assert found.window == 128_000
    assert found.price is not None and found.price.cached is not None
    assert found.price.cached < found.price.input < found.price.output


def test_what_agentos_yaml_says_counts_first(workspace: Path) -> None:
    yaml = "providers: {openai: {models: {gpt-4o: {window: 9k, price_input: 1, price_output: 2}}}}"
    found = model(workspace, "openai/gpt-4o", yaml)
    assert found.window == 9_000
    assert found.price == Price(1, 2)


def test_what_one_said_leaves_the_rest_to_the_map(workspace: Path) -> None:
    found = model(workspace, "openai/gpt-4o", "providers: {openai: {models: {gpt-4o: {window: 9k}}}}")
    assert found.window == 9_000
    assert found.price is not None


def test_a_provider_at_another_address_has_no_known_price(workspace: Path) -> None:
    found = model(workspace, "openai/gpt-4o", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert found.price is None


@pytest.mark.parametrize("name", ["openai/no-such-model", "openai/sample_spec", "openai/dall-e-3", "ollama/qwen3:8b"])
def test_nobody_knows_the_price_of_this(workspace: Path, name: str) -> None:
    assert model(workspace, name).price is None


def test_cached_and_written_tokens_have_prices_of_their_own() -> None:
    price = Price(3, 15, 0.3, 3.75)
    assert price.of(Usage(150, 7, 100, written=30)) == pytest.approx((20 * 3 + 100 * 0.3 + 30 * 3.75 + 7 * 15) / 1e6)


def test_a_long_request_costs_more_where_the_map_says_so() -> None:
    price = prices.facts("gemini", "gemini-2.5-pro").price
    assert price is not None and price.above
    least, higher = price.above[0]
    assert price.of(Usage(least, 0)) == pytest.approx(least * price.input / 1e6)
    assert price.of(Usage(least + 1, 0)) == pytest.approx((least + 1) * higher.input / 1e6)


def test_a_name_is_not_found_inside_another(workspace: Path) -> None:
    assert prices.facts("openai", "search_context_cost_per_query") == prices.UNKNOWN
    assert prices.facts("openai", 'gpt-4o": {') == prices.UNKNOWN
    assert prices.facts("openai", "\x00") == prices.UNKNOWN


def test_looking_a_price_up_imports_nothing_of_litellm() -> None:
    code = (
        "import sys; from agentos_jupyter.models import prices; assert prices.facts('openai', 'gpt-4o').price;"
        "print([name for name in sys.modules if name.split('.')[0] in ('litellm', 'tiktoken', 'openai')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
