"""mini-swe-agent against the same server: its default agent and local environment, litellm's `openai/`, no trajectory
file, cost tracking off. Run by the interpreter of its own environment (`peers.py`), without this repository's packages.

    python tests/bench/mini.py BASE_URL TURNS
"""

from __future__ import annotations

import logging
import sys

from minisweagent.agents.default import DefaultAgent
from minisweagent.environments.local import LocalEnvironment
from minisweagent.models.litellm_model import LitellmModel


def main(base_url: str, turns: int) -> None:
    logging.disable(logging.CRITICAL)
    model = LitellmModel(
        model_name="openai/bench",
        model_kwargs={"api_base": base_url, "api_key": "none"},
        cost_tracking="ignore_errors",
    )
    texts = {"system_template": "You have bash.", "instance_template": "{{task}}"}
    DefaultAgent(model, LocalEnvironment(), step_limit=turns + 1, cost_limit=0, **texts).run("Work.")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
