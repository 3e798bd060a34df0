"""Endpoints that speak OpenAI's chat completions, as data: where they are and which variable holds their key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Provider:
    """`key` names the variable; `local` ones need none. `bare` is put before a model id without a vendor.

    `extra` goes into every request's body; `max_tokens` is what the endpoint calls the cap on its output.
    """

    base_url: str
    key: str
    local: bool = False
    bare: str = ""
    usage_option: bool = True
    max_tokens: str = "max_tokens"
    extra: Mapping[str, Any] = field(default_factory=dict)


KNOWN: dict[str, Provider] = {
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "huggingface": Provider("https://router.huggingface.co/v1", "HF_TOKEN"),
    "llamacpp": Provider("http://127.0.0.1:8080/v1", "LLAMACPP_API_KEY", local=True),
    "lmstudio": Provider("http://127.0.0.1:1234/v1", "LMSTUDIO_API_KEY", local=True),
    # Refuses fields it does not know; sends usage without being asked.
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY", usage_option=False),
    "moonshot": Provider("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "nebius": Provider("https://api.tokenfactory.nebius.com/v1", "NEBIUS_API_KEY"),
    "nvidia": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434/v1", "OLLAMA_API_KEY", local=True),
    # Its reasoning models refuse `max_tokens`.
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY", max_tokens="max_completion_tokens"),
    # Its own routers have ids like `openrouter/auto`; `usage` makes it tell the cost.
    "openrouter": Provider(
        "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", bare="openrouter/", extra={"usage": {"include": True}}
    ),
    "sambanova": Provider("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "vllm": Provider("http://127.0.0.1:8000/v1", "VLLM_API_KEY", local=True),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY"),
}
