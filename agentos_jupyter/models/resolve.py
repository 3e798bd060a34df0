"""From a name to models: `<provider>/<model id>`, `scripted:<file>`, `replay:<recording>`, `human`, or a role of agentos.yaml."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentos_jupyter.errors import AgentOSError, ConfigError, ModelKeyMissing, ModelNotFound, nearest
from agentos_jupyter.limits import Limits
from agentos_jupyter.models.client import DirectModel, Endpoint, Pool, Price, proxy_for
from agentos_jupyter.models.deltas import Model
from agentos_jupyter.models.providers import KNOWN, Provider
from agentos_jupyter.models.rate import Limiter, Limiters, Rate
from agentos_jupyter.models.unready import UnreadyModel

if TYPE_CHECKING:
    from agentos_jupyter.config import ModelSettings, ProviderSettings, Settings
    from agentos_jupyter.models.replay import Recordings

DEMO = "scripted:demo"
HUMAN = "human"
ROLES = ("orchestrator", "worker", "reviewer", "heartbeat", "compactor")
LATER = ("litellm", "python")
"""Kinds of models that have a place here but are not in this version."""
_ALTERNATIVES = (
    "Or choose another model: AGENTOS_MODEL=ollama/<model> for a local one, OPENROUTER_API_KEY for hosted ones, "
    f"AGENTOS_MODEL={DEMO} for the scripted demonstration."
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The names of a chain (first the primary), and why these: a variable, a line of agentos.yaml, or the default."""

    names: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that could be asked; `reason` says what is missing where it is not `ready`."""

    name: str
    role: str | None
    scripted: bool
    ready: bool
    reason: str


class Models:
    """The models of one workspace. `environ` is read at each call, so a key may come later."""

    def __init__(
        self, settings: Settings, environ: Mapping[str, str], limits: Limits, limiters: Limiters | None = None
    ) -> None:
        """`limiters` are those of the `Models` before, so that new settings do not forget what was sent."""
        self.limiters = limiters or Limiters()
        self._settings = settings
        self._environ = environ
        self._limits = limits
        self._pool = Pool(limits.connect)
        self._kinds: dict[str, Callable[[str], Model]] = {
            "scripted": self._scripted,
            "replay": self._replay,
            "human": self._human,
        }
        self._recordings: Recordings | None = None

    async def aclose(self) -> None:
        await self._pool.aclose()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key value that models may use, for redaction."""
        names = {provider.key for provider in KNOWN.values()}
        names |= {self._default_key(name) for name in self._settings.providers}
        return tuple(value for name in sorted(names) if (value := self._environ.get(name, "").strip()))

    def resolve(self, name: str | None = None) -> Sequence[Model]:
        """The primary model of a name or role, then its fallbacks. `None` is the default.

        Raises `ModelNotFound`, `ModelKeyMissing` or `ConfigError` when none of the chain can be asked; one that cannot,
        in a chain with another that can, fails as an attempt, so that the log shows it.
        """
        chain: list[Model] = []
        errors: list[AgentOSError] = []
        for one in self.choice(name).names:
            try:
                chain.append(self._build(one))
            except AgentOSError as error:
                chain.append(UnreadyModel(one, error, self._limits.window))
                errors.append(error)
        if len(errors) == len(chain):
            raise errors[0]
        return chain

    def choice(self, name: str | None = None) -> Choice:
        """Which names stand behind a name, a role, or nothing, and why."""
        roles = self._settings.roles
        if name is None or (name in ROLES and name not in roles) or name == "orchestrator":
            return self._default()
        if name in roles:
            return Choice((roles[name].model, *roles[name].fallbacks), f"roles.{name} in agentos.yaml")
        return Choice((name,), "asked for by name")

    def _default(self) -> Choice:
        """AGENTOS_MODEL > roles.orchestrator > model > a key that is there > the scripted demonstration."""
        environ, settings = self._environ, self._settings
        named = environ.get("AGENTOS_MODEL", "").strip()
        if named:
            role = settings.roles.get(named)
            return Choice((role.model, *role.fallbacks) if role else (named,), "AGENTOS_MODEL")
        if "orchestrator" in settings.roles:
            role = settings.roles["orchestrator"]
            return Choice((role.model, *role.fallbacks), "roles.orchestrator in agentos.yaml")
        if settings.model:
            return Choice((settings.model,), "model in agentos.yaml")
        if environ.get("OPENROUTER_API_KEY"):
            return Choice(("openrouter/auto",), "OPENROUTER_API_KEY is set")
        # A bare OpenAI key names no model, and a guessed one would cost money: OPENAI_MODEL has to say it.
        if environ.get("OPENAI_MODEL") and (environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL")):
            return Choice((f"openai/{environ['OPENAI_MODEL']}",), "OPENAI_MODEL is set")
        return Choice((DEMO,), "no model is configured")

    def _build(self, name: str) -> Model:
        kind, colon, rest = (name if name != HUMAN else f"{HUMAN}:").partition(":")
        if colon and "/" not in kind:
            return self._of_kind(kind, rest)
        provider, slash, model = name.partition("/")
        if not slash or not model:
            known = {*self._settings.roles, *ROLES, *(f"{one}/<model>" for one in self._providers())}
            raise ModelNotFound(nearest("model or role", name, known) + " A model is <provider>/<model id>.")
        if provider not in self._providers():
            raise ModelNotFound(
                nearest("provider", provider, self._providers())
                + " Describe others under `providers:` in agentos.yaml."
            )
        return self._direct(name, provider, model)

    def _of_kind(self, kind: str, rest: str) -> Model:
        build = self._kinds.get(kind)
        if build is not None:
            return build(rest)
        if kind in LATER:
            now = ", ".join(f"{one}:" for one in sorted(self._kinds))
            raise ModelNotFound(
                f"Models of the kind {kind}: are not in this version. There are {now} and <provider>/<model id>."
            )
        raise ModelNotFound(nearest("kind of model", kind, (*self._kinds, *LATER)))

    def _scripted(self, file: str) -> Model:
        from agentos_jupyter.models import scripted

        return scripted.load(file, self._settings.workspace, self._limits)

    def _human(self, rest: str) -> Model:
        from agentos_jupyter.models.human import HumanModel

        if rest:
            raise ModelNotFound(f"The model {HUMAN} takes no name: write `model: {HUMAN}`.")
        return HumanModel(self._limits.window)

    def _replay(self, file: str) -> Model:
        from agentos_jupyter.models.replay import Recordings

        self._recordings = self._recordings or Recordings(self._settings.workspace, self._limits)
        return self._recordings.model(file)

    def _providers(self) -> set[str]:
        return {*KNOWN, *self._settings.providers}

    def _direct(self, name: str, provider: str, model: str) -> Model:
        given = self._settings.providers.get(provider)
        known = KNOWN.get(provider)
        base_url, from_environ = self._base_url(provider, given, known)
        key_name, key = self._key(provider, given, known, moved=bool(given and given.base_url and not from_environ))
        if key is None and known is not None and not known.local and not (from_environ or (given and given.base_url)):
            raise ModelKeyMissing(f"{name} needs a key: set {key_name}. {_ALTERNATIVES}", variable=key_name)

        about = given.models.get(model) if given else None
        bare = known.bare if known and "/" not in model else ""
        endpoint = Endpoint(
            base_url=base_url,
            model=bare + model,
            key=key,
            key_name=key_name,
            headers={header: self._fill(provider, text) for header, text in (given.headers if given else {}).items()},
            usage_option=known.usage_option if known else True,
            extra=_extra(known, about),
            proxy=proxy_for(base_url, self._environ),
        )
        window = (about and about.window) or self._limits.window
        return DirectModel(
            name,
            endpoint,
            self._pool,
            window=window,
            limit=self._limits.reply,
            price=_price(about),
            limiter=self.limiter(provider),
        )

    def limiter(self, provider: str) -> Limiter:
        """The turns of a provider, shared by all of its models and by all sessions."""
        given = self._settings.providers.get(provider)
        said = given.rate.model_dump(exclude_none=True) if given and given.rate else {}
        return self.limiters.of(provider, Rate(**said))

    def _base_url(self, provider: str, given: ProviderSettings | None, known: Provider | None) -> tuple[str, bool]:
        """`<PROVIDER>_BASE_URL` > agentos.yaml > the table; and whether the environment said it."""
        variable = f"{_constant(provider)}_BASE_URL"
        named = self._environ.get(variable, "").strip()
        if named:
            from agentos_jupyter.config import endpoint

            try:
                return endpoint(named), True
            except ValueError as error:
                raise ConfigError(f"{variable}: {error}.") from None
        url = (given.base_url if given else None) or (known.base_url if known else None)
        if url is None:
            raise ConfigError(f"The provider {provider!r} in agentos.yaml has no base_url: add it, or set {variable}.")
        return url, False

    def _key(
        self, provider: str, given: ProviderSettings | None, known: Provider | None, moved: bool
    ) -> tuple[str | None, str | None]:
        """The variable and the key. A provider whose address a file changed gets a key only if the file says which."""
        if given and given.key:
            variable = given.key[2:-1]
            return variable, self._value(provider, variable)
        variable = known.key if known else self._default_key(provider)
        if moved and known:
            return None, None
        value = self._environ.get(variable, "").strip()
        return variable, _plain_key(variable, value) if value else None

    def _value(self, provider: str, variable: str) -> str:
        """`${VARIABLE}` of agentos.yaml: only a key of a known provider or of this one, never just anything."""
        allowed = {one.key for one in KNOWN.values()} | {self._default_key(provider)}
        if variable not in allowed and variable not in _own_variables():
            raise ConfigError(
                f"agentos.yaml may not read ${{{variable}}} for the provider {provider!r}: "
                f"put the key into {self._default_key(provider)} and name that, "
                "or list the variable under `variables:` in your own config.yaml."
            )
        value = self._environ.get(variable, "").strip()
        if not value:
            raise ModelKeyMissing(
                f"The provider {provider!r} needs a key: set {variable}. {_ALTERNATIVES}", variable=variable
            )
        return _plain_key(variable, value)

    def _fill(self, provider: str, text: str) -> str:
        return re.sub(r"\$\{([^}]*)\}", lambda found: self._value(provider, found[1]), text)

    def _default_key(self, provider: str) -> str:
        known = KNOWN.get(provider)
        return known.key if known else f"{_constant(provider)}_API_KEY"

    async def reach(self, provider: str) -> int:
        """How many models a provider lists with the key there is. Raises what kept it from answering."""
        model = self._build(f"{provider}/any")
        if not isinstance(model, DirectModel):
            raise ModelNotFound(f"{provider} has no endpoint that could be asked for its models.")
        return await model.reach()

    def default(self) -> Listed:
        """The model that is asked where nothing names one."""
        return self._listed(self._default().names[0], "default")

    def list(self) -> Sequence[Listed]:
        """Every model that something names, with what is missing; the scripted demonstration is always there."""
        settings = self._settings
        named: dict[str, str | None] = dict.fromkeys(self._default().names, "default")
        for role, one in settings.roles.items():
            named |= {name: role for name in (one.model, *one.fallbacks) if name not in named}
        ready = [f"{name}/{model}" for name, one in settings.providers.items() for model in one.models]
        hosted = ["openrouter/auto"] if self._environ.get("OPENROUTER_API_KEY") else []
        for name in (settings.model, *ready, *hosted, DEMO):
            if name:
                named.setdefault(name, None)
        return [self._listed(name, role) for name, role in named.items()]

    def _listed(self, name: str, role: str | None) -> Listed:
        try:
            model = self._build(name)
        except AgentOSError as error:
            return Listed(name, role, name.startswith("scripted:"), False, error.message)
        return Listed(name, role, model.scripted, True, "")


def _own_variables() -> frozenset[str]:
    from agentos_jupyter.config import user_variables

    return user_variables()


def _constant(provider: str) -> str:
    return re.sub(r"\W", "_", provider).upper()


def _plain_key(variable: str, value: str) -> str:
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ModelKeyMissing(
            f"{variable} holds something that is no key (spaces or special characters in it): set it again."
        )
    return value


def _extra(known: Provider | None, about: ModelSettings | None) -> dict[str, object]:
    extra: dict[str, object] = dict(known.extra) if known else {}
    if about and about.max_output:
        extra[known.max_tokens if known else "max_tokens"] = about.max_output
    return extra


def _price(about: ModelSettings | None) -> Price | None:
    if about is None or about.price_input is None or about.price_output is None:
        return None
    return Price(about.price_input, about.price_output, about.price_cached)
