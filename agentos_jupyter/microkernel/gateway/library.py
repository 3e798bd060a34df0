"""litellm, set up to do one thing: carry a request to its provider, and tell nobody else.

Prices and lists come from its package, `.env` files are not read, nothing is reported or logged, nothing is repeated
(the daemon does that), and no redirect is followed, because a key goes only to its provider's host.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
from functools import wraps
from typing import Any

SETTINGS = {
    "LITELLM_MODE": "PRODUCTION",  # no .env
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOG": "CRITICAL",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def load() -> Any:
    """The module, imported at the first call (some seconds and 170 MB)."""
    os.environ.update(SETTINGS)
    litellm: Any = importlib.import_module("litellm")
    for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router", "httpx", "openai"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    litellm.suppress_debug_info = True
    litellm.set_verbose = False
    litellm.turn_off_message_logging = True
    litellm.disable_streaming_logging = True
    litellm.disable_token_counter = True
    litellm.disable_hf_tokenizer_download = True
    litellm.num_retries = 0
    litellm.drop_params = True
    litellm.cache = None
    litellm.callbacks = litellm.success_callback = litellm.failure_callback = litellm.input_callback = []
    litellm.main.encoding = _Later()
    _stay_at_the_host()
    gc.collect()
    gc.freeze()  # what was imported stays: to look through it again takes 300 ms, every ten calls
    return litellm


class _Later:
    """litellm's encoding for counting tokens, which it hands to every call and hardly any counts with: 40 MB, at first use."""

    def __getattr__(self, name: str) -> Any:
        from litellm._lazy_imports import get_default_encoding

        return getattr(get_default_encoding(), name)


def _stay_at_the_host() -> None:
    """Follow no redirect: httpx takes `Authorization` away at another host, but sends every other header along."""
    import httpx

    for client in (httpx.Client, httpx.AsyncClient):
        client.send = _unmoved(client.send)  # type: ignore[method-assign]


def _unmoved(send: Any) -> Any:
    @wraps(send)
    def sending(self: Any, request: Any, **more: Any) -> Any:
        return send(self, request, **{**more, "follow_redirects": False})

    return sending
