"""From a name to models: `<provider>/<model id>`, `litellm:…`, `scripted:…`, `replay:…`, `human`, `python:…`, or a role."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentos_jupyter import keys
from agentos_jupyter.errors import AgentOSError, ModelKeyMissing, ModelNotFound, closest, nearest
from agentos_jupyter.limits import Limits
from agentos_jupyter.models.access import ALTERNATIVES, Access, default_key
from agentos_jupyter.models.client import DirectModel, Endpoint, Pool, proxy_for
from agentos_jupyter.models.deltas import Model
from agentos_jupyter.models.facts import About, Known
from agentos_jupyter.models.gatewayed import Gatewayed
from agentos_jupyter.models.providers import KNOWN, Provider
from agentos_jupyter.models.rate import Limiter, Limiters, Rate
from agentos_jupyter.models.remote import Channel
from agentos_jupyter.models.spoken import PROVIDERS, variables
from agentos_jupyter.models.unready import UnreadyModel

if TYPE_CHECKING:
    from agentos_jupyter.config import Settings
    from agentos_jupyter.models.replay import Recordings

DEMO = "scripted:demo"
HUMAN = "human"
ROLES = ("orchestrator", "worker", "reviewer", "heartbeat", "compactor")


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
        self,
        settings: Settings,
        environ: Mapping[str, str],
        limits: Limits,
        limiters: Limiters | None = None,
        channel: Channel | None = None,
    ) -> None:
        """`limiters` are those of the `Models` before, so that new settings do not forget what was sent; `channel` leads to
        the gateway, where there is one."""
        self.limiters = limiters or Limiters()
        self._settings = settings
        self._environ = environ
        self._limits = limits
        self._pool = Pool(limits.connect)
        self._access = Access(settings, environ)
        self._known = Known(self._access)
        self._gatewayed = Gatewayed(self._access, limits, self._known, self.limiter, channel)
        self._kinds: dict[str, Callable[[str], Model]] = {
            "scripted": self._scripted,
            "replay": self._replay,
            "human": self._human,
            "litellm": lambda spoken: self._gatewayed.litellm(f"litellm:{spoken}", spoken),
            "python": lambda spoken: self._gatewayed.python(f"python:{spoken}", spoken),
        }
        self._recordings: Recordings | None = None

    async def aclose(self) -> None:
        await self._pool.aclose()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every key value that models may use, for redaction."""
        names = {provider.key for provider in KNOWN.values()} | {name for name in variables() if keys.is_key(name)}
        names |= {default_key(name) for name in self._settings.providers}
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
        """Which models stand behind a name, a role, or nothing, and why."""
        chosen = self._chosen(name)
        names = (one for each in chosen.names for one in self._behind(each))
        return Choice(tuple(dict.fromkeys(names)), chosen.why)

    def _behind(self, name: str) -> tuple[str, ...]:
        """The models that `models:` of agentos.yaml gives a short name; any other name is itself."""
        found = self._settings.models.get(name)
        return (name,) if found is None else (found.model, *found.fallbacks)

    def _chosen(self, name: str | None) -> Choice:
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
            known = {
                *self._settings.models,
                *self._settings.roles,
                *ROLES,
                *(f"{one}/<model>" for one in self._providers()),
            }
            raise ModelNotFound(nearest("model or role", name, known) + " A model is <provider>/<model id>.")
        given = self._access.given(provider)
        if provider in KNOWN or (given and given.base_url):
            return self._direct(name, provider, model)
        if provider in PROVIDERS:
            return self._gatewayed.litellm(name, name)
        if provider not in self._providers():
            own = ", ".join(sorted(self._providers()))
            hint = closest(provider, [*self._providers(), *PROVIDERS])
            raise ModelNotFound(
                f"no provider named {provider!r}{hint or '.'} Known: {own}, and {len(PROVIDERS)} of litellm. "
                "Describe others under `providers:` in agentos.yaml."
            )
        return self._direct(name, provider, model)

    def _of_kind(self, kind: str, rest: str) -> Model:
        build = self._kinds.get(kind)
        if build is not None:
            return build(rest)
        raise ModelNotFound(nearest("kind of model", kind, self._kinds))

    def _scripted(self, file: str) -> Model:
        from agentos_jupyter.models import scripted

        named = self._environ.get("AGENTOS_MODEL", "").strip() == f"scripted:{file}"
        trusted = named or self._environ.get("AGENTOS_TRUST") == "1"
        return scripted.load(file, self._settings.workspace, self._limits, trusted)

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
        given, known = self._access.given(provider), KNOWN.get(provider)
        base_url, from_environ = self._access.base_url(provider, known)
        moved = bool(given and given.base_url and not from_environ)
        key_name, key = self._access.key(provider, (default_key(provider),), moved and known is not None)
        if key is None and known is not None and not known.local and not (from_environ or moved):
            raise ModelKeyMissing(f"{name} needs a key: set {key_name}. {ALTERNATIVES}", variable=key_name)

        about = self._known.of(provider, model)
        bare = known.bare if known and "/" not in model else ""
        endpoint = Endpoint(
            base_url=base_url,
            model=bare + model,
            key=key,
            key_name=key_name,
            headers=self._access.headers(provider),
            usage_option=known.usage_option if known else True,
            extra=_extra(known, about),
            proxy=proxy_for(base_url, self._environ),
        )
        return DirectModel(
            name,
            endpoint,
            self._pool,
            window=about.window or self._limits.window,
            limit=self._limits.reply,
            price=about.price,
            limiter=self.limiter(provider),
        )

    def limiter(self, provider: str) -> Limiter:
        """The turns of a provider, shared by all of its models and by all sessions."""
        given = self._settings.providers.get(provider)
        said = given.rate.model_dump(exclude_none=True) if given and given.rate else {}
        return self.limiters.of(provider, Rate(**said))

    async def reach(self, provider: str) -> int:
        """How many models a provider lists with the key there is. Raises what kept it from answering."""
        model = self._build(f"{provider}/any")
        if not isinstance(model, DirectModel):
            raise ModelNotFound(
                f"{provider} is asked through litellm, which lists no models: `agentos doctor --live` asks those configured."
            )
        return await model.reach()

    def default(self) -> Listed:
        """The model that is asked where nothing names one."""
        return self._listed(self.choice().names[0], "default")

    def list(self) -> Sequence[Listed]:
        """Every model that something names, with what is missing; the scripted demonstration is always there."""
        from agentos_jupyter.config import user_functions

        settings = self._settings
        named: dict[str, str | None] = dict.fromkeys(self.choice().names, "default")
        for called in (*settings.roles, *settings.models):
            named |= {name: called for name in self.choice(called).names if name not in named}
        ready = [f"{name}/{model}" for name, one in settings.providers.items() for model in one.models]
        hosted = ["openrouter/auto"] if self._environ.get("OPENROUTER_API_KEY") else []
        functions = [f"python:{name}" for name in user_functions().models]
        chosen = self.choice(settings.model).names if settings.model else ()
        for name in (*chosen, *ready, *hosted, *functions, DEMO):
            named.setdefault(name, None)
        return [self._listed(name, role) for name, role in named.items()]

    def _listed(self, name: str, role: str | None) -> Listed:
        try:
            model = self._build(name)
        except AgentOSError as error:
            return Listed(name, role, name.startswith("scripted:"), False, error.message)
        return Listed(name, role, model.scripted, True, "")


def _extra(known: Provider | None, about: About) -> dict[str, object]:
    extra: dict[str, object] = dict(known.extra) if known else {}
    if about.said_max_output:
        extra[known.max_tokens if known else "max_tokens"] = about.said_max_output
    return extra
