"""What litellm speaks, as data, so that a name is understood without importing it: providers, and the variables they need.

A test compares the names with those of the installed litellm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_NAMES = """
a2a a2a_agent abliteration ai21 ai21_chat aiand aiml aiohttp_openai amazon_nova anthropic anthropic_text
apertis assemblyai auto_router aws_polly aws_textract azure azure_ai azure_speech azure_text baseten bedrock
bedrock_mantle bespoke bigmodel black_forest_labs bytez cerebras charity_engine chatgpt chutes clarifai
clf_ai_gateway cloudflare codestral cognition cohere cohere_chat cometapi compactifai coralbricks cortecs
cursor custom custom_openai darkbloom dashscope databricks databricks_agent datarobot deepgram deepinfra
deepseek docker_model_runner dotprompt edenai elevenlabs empiriolabs empower eu_jev fal_ai featherless_ai
fireworks_ai friendliai galadriel gdc gemini gigachat github github_copilot gradient_ai groq helicone heroku
hosted_vllm hostinger_router huggingface humanloop hyperbolic inception inferenceapis infinity jina_ai kyma
lambda_ai langflow langfuse langgraph laya lemonade libertai litellm_agent litellm_proxy llamafile lm_studio
manus maritalk meta meta_llama microsoft_365_copilot milvus minimax mistral modelscope mongodb moonshot
morph nace nadir nano-gpt nebius neosantara nlp_cloud novita nscale nvidia_nim nvidia_riva oci ollama
ollama_chat oobabooga openai openai_like opencode_go openinfer openrouter opensearch ovhcloud parallel_ai
parasail perplexity petals pg_vector pinstripes poe predibase prism publicai qwen_ai_platform qwencloud
ragflow recraft reducto refuseless reka replicate runwayml s3_vectors sagemaker sagemaker_chat
sagemaker_nova sail sambanova sap scaledown scaleway scx-ai snowflake soniox stability strands_decider
streamlake synthetic tencent tensormesh text-completion-codestral text-completion-inception
text-completion-openai together_ai topaz transcribe triton typesafe v0 valkey vercel_ai_gateway vertex_ai
vertex_ai_beta vllm volcengine voyage wally wandb watsonx watsonx_text xai xiaomi_mimo xinference zai
zerogpu
"""
PROVIDERS = frozenset(_NAMES.split())


@dataclass(frozen=True, slots=True)
class Needs:
    """What a provider's call takes: `key` names the variables of its key, the first that is set counts.

    `more` are litellm's further parameters with their variables, of which `must` are needed; `keyless` ones ask for none.
    """

    key: tuple[str, ...]
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    must: tuple[str, ...] = ()
    keyless: bool = False


_AWS = {
    "aws_access_key_id": ("AWS_ACCESS_KEY_ID",),
    "aws_secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "aws_session_token": ("AWS_SESSION_TOKEN",),
    "aws_region_name": ("AWS_REGION_NAME", "AWS_REGION", "AWS_DEFAULT_REGION"),
}
_AZURE = {"api_base": ("AZURE_API_BASE",), "api_version": ("AZURE_API_VERSION",)}
_VERTEX = {
    "vertex_project": ("VERTEXAI_PROJECT", "VERTEX_PROJECT"),
    "vertex_location": ("VERTEXAI_LOCATION", "VERTEX_LOCATION"),
    "vertex_credentials": ("VERTEXAI_CREDENTIALS", "GOOGLE_APPLICATION_CREDENTIALS"),
}
_WATSONX = {
    "api_base": ("WATSONX_URL", "WATSONX_API_BASE"),
    "project_id": ("WATSONX_PROJECT_ID",),
    "space_id": ("WATSONX_SPACE_ID",),
}
_NO_KEY = Needs((), keyless=True)

SPECIAL: dict[str, Needs] = {
    "ai21_chat": Needs(("AI21_API_KEY",)),
    "apertis": Needs(("STIMA_API_KEY",)),
    "azure": Needs(("AZURE_API_KEY",), _AZURE, must=("api_base",)),
    "azure_ai": Needs(("AZURE_AI_API_KEY",), {"api_base": ("AZURE_AI_API_BASE",)}, must=("api_base",)),
    "azure_text": Needs(("AZURE_API_KEY",), _AZURE, must=("api_base",)),
    # Either a bearer key, or the two of an access key: what is missing is said by AWS.
    "bedrock": Needs(("AWS_BEARER_TOKEN_BEDROCK",), _AWS, keyless=True),
    "cloudflare": Needs(("CLOUDFLARE_API_KEY",), {"api_base": ("CLOUDFLARE_API_BASE",)}),
    "cohere": Needs(("COHERE_API_KEY", "CO_API_KEY")),
    "cohere_chat": Needs(("COHERE_API_KEY", "CO_API_KEY")),
    "databricks": Needs(("DATABRICKS_API_KEY", "DATABRICKS_TOKEN"), {"api_base": ("DATABRICKS_API_BASE",)}),
    "docker_model_runner": _NO_KEY,
    "fireworks_ai": Needs(("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY")),
    "friendliai": Needs(("FRIENDLIAI_API_KEY", "FRIENDLI_TOKEN")),
    "gemini": Needs(("GEMINI_API_KEY", "GOOGLE_API_KEY")),
    "hosted_vllm": Needs(("HOSTED_VLLM_API_KEY",), keyless=True),
    "huggingface": Needs(("HF_TOKEN", "HUGGINGFACE_API_KEY")),
    "lemonade": _NO_KEY,
    "litellm_proxy": Needs(("LITELLM_PROXY_API_KEY",), keyless=True),
    "llamafile": _NO_KEY,
    "lm_studio": Needs(("LM_STUDIO_API_KEY",), keyless=True),
    "meta_llama": Needs(("LLAMA_API_KEY",)),
    "nano-gpt": Needs(("NANOGPT_API_KEY",)),
    "nvidia_nim": Needs(("NVIDIA_NIM_API_KEY", "NVIDIA_API_KEY")),
    "ollama": Needs(("OLLAMA_API_KEY",), keyless=True),
    "ollama_chat": Needs(("OLLAMA_API_KEY",), keyless=True),
    "oobabooga": _NO_KEY,
    "perplexity": Needs(("PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY")),
    "petals": _NO_KEY,
    "replicate": Needs(("REPLICATE_API_KEY", "REPLICATE_API_TOKEN")),
    "sagemaker": Needs((), _AWS, keyless=True),
    "sagemaker_chat": Needs((), _AWS, keyless=True),
    "scaleway": Needs(("SCW_SECRET_KEY",)),
    "scx-ai": Needs(("SCX_API_KEY",)),
    "snowflake": Needs(("SNOWFLAKE_JWT",), {"account_id": ("SNOWFLAKE_ACCOUNT_ID",)}),
    "tensormesh": Needs(("TENSORMESH_INFERENCE_API_KEY",)),
    "text-completion-codestral": Needs(("CODESTRAL_API_KEY",)),
    "text-completion-inception": Needs(("INCEPTION_API_KEY",)),
    "text-completion-openai": Needs(("OPENAI_API_KEY",)),
    "together_ai": Needs(("TOGETHER_API_KEY", "TOGETHERAI_API_KEY", "TOGETHER_AI_API_KEY")),
    "triton": _NO_KEY,
    "vertex_ai": Needs((), _VERTEX, must=("vertex_project", "vertex_location"), keyless=True),
    "vertex_ai_beta": Needs((), _VERTEX, must=("vertex_project", "vertex_location"), keyless=True),
    "vllm": _NO_KEY,
    "watsonx": Needs(("WATSONX_API_KEY", "WATSONX_APIKEY"), _WATSONX, must=("api_base",)),
    "xinference": _NO_KEY,
}

NAMES_OF_KNOWN = {
    "fireworks": "fireworks_ai",
    "lmstudio": "lm_studio",
    "nvidia": "nvidia_nim",
    "together": "together_ai",
    "vllm": "hosted_vllm",
}
"""Our names of providers where litellm has another: its price map is asked with its own."""


def needs(provider: str) -> Needs:
    """What a call to this provider takes; most want one key in `<PROVIDER>_API_KEY`."""
    return SPECIAL.get(provider) or Needs((f"{constant(provider)}_API_KEY",))


def constant(provider: str) -> str:
    """A provider's name as it begins its variables."""
    return "".join(letter if letter.isalnum() else "_" for letter in provider).upper()


def variables_of(provider: str) -> tuple[str, ...]:
    """Every variable that a call to this provider takes."""
    wanted = needs(provider)
    return (*wanted.key, *(name for names in wanted.more.values() for name in names))


def variables() -> frozenset[str]:
    """Every variable that some provider's call takes."""
    return frozenset(name for provider in PROVIDERS for name in variables_of(provider))
