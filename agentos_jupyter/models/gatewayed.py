"""Names become models behind the gateway: `litellm:<provider>/<model>`, and `python:<module>:<function>` of the person's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from agentos_jupyter.errors import ConfigError, ModelKeyMissing, ModelNotFound, ModelUnavailable, closest, nearest
from agentos_jupyter.limits import Limits
from agentos_jupyter.models.access import ALTERNATIVES, Access, address_variables
from agentos_jupyter.models.facts import Known
from agentos_jupyter.models.rate import Limiter
from agentos_jupyter.models.remote import Channel, Remote, RemoteModel
from agentos_jupyter.models.spoken import PROVIDERS, Needs, needs

_ID = re.compile(r"[\w.:@/+-]{1,200}", re.ASCII)
"""litellm takes the address of a server in a model's place for some providers, and would send the key to it."""


class Gatewayed:
    """Builds them. `channel` is None where nothing runs a gateway."""

    def __init__(
        self,
        access: Access,
        limits: Limits,
        known: Known,
        limiter: Callable[[str], Limiter],
        channel: Channel | None,
    ) -> None:
        self._access, self._limits, self._known = access, limits, known
        self._limiter = limiter
        self._channel = channel

    def litellm(self, name: str, spoken: str) -> RemoteModel:
        """`spoken` is `<provider>/<model>` in litellm's words. Raises `ModelNotFound`, `ModelKeyMissing`, `ConfigError`."""
        provider, slash, model = spoken.partition("/")
        if not slash or not model or provider not in PROVIDERS:
            hint = closest(provider, PROVIDERS)
            raise ModelNotFound(
                f"litellm has no provider {provider!r}{hint or '.'} A model is litellm:<provider>/<model id>."
            )
        if not _ID.fullmatch(model) or "//" in model:
            raise ModelNotFound(
                f"{model!r} is no model's id: an address stands in {address_variables(provider)[0]} or in agentos.yaml, "
                "because the key goes there."
            )
        about = self._known.of(provider, model)
        key_name, secrets = self._secrets(name, provider)
        params: dict[str, Any] = {
            "model": spoken,
            "provider": provider,
            "timeout": self._limits.compute,
            "connect": self._limits.connect,
            "extra": {"max_tokens": about.max_output} if about.said_max_output else {},
            "key_name": key_name,
        }
        return RemoteModel(
            name,
            Remote("complete", params, secrets),
            self._open(name),
            window=about.window or self._limits.window,
            price=about.price,
            limiter=self._limiter(provider),
        )

    def python(self, name: str, spoken: str) -> RemoteModel:
        """A function that the person's own configuration lists. Raises `ModelNotFound` for any other."""
        from agentos_jupyter.config import user_config_file, user_functions

        own = user_functions()
        if spoken not in own.models:
            where = f"list it under `python_models:` in {user_config_file()}, which no workspace can change"
            if not own.models:
                raise ModelNotFound(f"No function may be a model yet: {where}, such as [my_models:answer].")
            raise ModelNotFound(nearest("function that may be a model", spoken, own.models) + f" Else {where}.")
        remote = Remote("python", {"function": spoken, "path": list(own.path)})
        return RemoteModel(name, remote, self._open(name), window=self._limits.window)

    def _open(self, name: str) -> Channel:
        if self._channel is None:
            raise ModelUnavailable(f"{name} needs the gateway, which only a daemon runs.", final=True)
        return self._channel

    def _secrets(self, name: str, provider: str) -> tuple[str | None, dict[str, Any]]:
        """The name of the key's variable, and what goes with the call: key, address, headers, the provider's further ones."""
        wanted = needs(provider)
        address, from_environ = self._access.address(provider)
        key_name, key = self._access.key(provider, wanted.key, moved=bool(address and not from_environ))
        if key is None and not wanted.keyless and not address:
            raise ModelKeyMissing(f"{name} needs a key: set {key_name}. {ALTERNATIVES}", variable=key_name)
        more = self._more(name, provider, wanted, address) if not address or from_environ else {}
        headers = self._access.headers(provider)
        said = {"api_key": key, "api_base": address, "extra_headers": headers or None}
        return key_name, more | {param: value for param, value in said.items() if value}

    def _more(self, name: str, provider: str, wanted: Needs, address: str | None) -> dict[str, str]:
        """The provider's further parameters out of their variables. Raises `ConfigError` for one that has to be there."""
        environ = self._access.environ
        found: dict[str, str] = {}
        for param, variables in wanted.more.items():
            value = next((environ[each].strip() for each in variables if environ.get(each, "").strip()), None)
            if value is not None:
                found[param] = value
            elif param in wanted.must and not (param == "api_base" and address):
                also = f", or {address_variables(provider)[0]}" if param == "api_base" else ""
                raise ConfigError(f"{name} needs {variables[0]}{also}: set it, or choose another model.")
        return found
