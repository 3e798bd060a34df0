"""How a provider is reached: its address and its key, out of the environment and agentos.yaml.

A key goes only to its provider: one whose address a file changed gets a key only if the file says which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agentos_jupyter.errors import ConfigError, ModelKeyMissing
from agentos_jupyter.models.providers import KNOWN, Provider
from agentos_jupyter.models.spoken import constant

if TYPE_CHECKING:
    from agentos_jupyter.config import ProviderSettings, Settings

ALTERNATIVES = (
    "Or choose another model: AGENTOS_MODEL=ollama/<model> for a local one, OPENROUTER_API_KEY for hosted ones, "
    "AGENTOS_MODEL=scripted:demo for the scripted demonstration."
)


class Access:
    """The addresses and keys of one workspace. `environ` is read at each call, so a key may come later."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self.environ = environ

    def given(self, provider: str) -> ProviderSettings | None:
        """What agentos.yaml says of a provider."""
        return self._settings.providers.get(provider)

    def address(self, provider: str) -> tuple[str | None, bool]:
        """`<PROVIDER>_BASE_URL` > agentos.yaml > nothing; and whether the environment said it. Raises `ConfigError`."""
        for variable in address_variables(provider):
            named = self.environ.get(variable, "").strip()
            if named:
                from agentos_jupyter.config import endpoint

                try:
                    return endpoint(named), True
                except ValueError as error:
                    raise ConfigError(f"{variable}: {error}.") from None
        given = self.given(provider)
        return (given.base_url if given else None), False

    def base_url(self, provider: str, known: Provider | None) -> tuple[str, bool]:
        """The address of a provider that is asked directly: what was said, else the table's."""
        said, from_environ = self.address(provider)
        url = said or (known.base_url if known else None)
        if url is None:
            variable = address_variables(provider)[0]
            raise ConfigError(f"The provider {provider!r} in agentos.yaml has no base_url: add it, or set {variable}.")
        return url, from_environ

    def key(self, provider: str, variables: tuple[str, ...], moved: bool) -> tuple[str | None, str | None]:
        """The variable and the key: the one agentos.yaml names, else the first of `variables` that is set.

        `moved` says that a file changed the address of a provider whose key everybody has: then it gets none.
        """
        given = self.given(provider)
        if given and given.key:
            variable = given.key[2:-1]
            return variable, self.value(provider, variable)
        if moved or not variables:
            return None, None
        for variable in variables:
            value = self.environ.get(variable, "").strip()
            if value:
                return variable, plain_key(variable, value)
        return variables[0], None

    def value(self, provider: str, variable: str) -> str:
        """`${VARIABLE}` of agentos.yaml: only a key of a known provider or of this one, never just anything."""
        allowed = {one.key for one in KNOWN.values()} | {default_key(provider)}
        if variable not in allowed and variable not in _own_variables():
            raise ConfigError(
                f"agentos.yaml may not read ${{{variable}}} for the provider {provider!r}: "
                f"put the key into {default_key(provider)} and name that, "
                "or list the variable under `variables:` in your own config.yaml."
            )
        value = self.environ.get(variable, "").strip()
        if not value:
            raise ModelKeyMissing(
                f"The provider {provider!r} needs a key: set {variable}. {ALTERNATIVES}", variable=variable
            )
        return plain_key(variable, value)

    def headers(self, provider: str) -> dict[str, str]:
        """The headers that agentos.yaml adds, with their variables filled in."""
        given = self.given(provider)
        return {name: self._filled(provider, text) for name, text in (given.headers if given else {}).items()}

    def _filled(self, provider: str, text: str) -> str:
        return re.sub(r"\$\{([^}]*)\}", lambda found: self.value(provider, found[1]), text)


def address_variables(provider: str) -> tuple[str, ...]:
    """The variables that may name another host for a provider; `…_API_BASE` is litellm's word for it."""
    ours = f"{constant(provider)}_BASE_URL"
    return (ours,) if provider in KNOWN else (ours, f"{constant(provider)}_API_BASE")


def default_key(provider: str) -> str:
    """The variable of a provider's key."""
    known = KNOWN.get(provider)
    return known.key if known else f"{constant(provider)}_API_KEY"


def plain_key(variable: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ModelKeyMissing(
            f"{variable} holds something that is no key (spaces or special characters in it): set it again."
        )
    return value


def _own_variables() -> frozenset[str]:
    from agentos_jupyter.config import user_variables

    return user_variables()
