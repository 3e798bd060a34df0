"""Keep keys of model providers: `key set openrouter`, `key list`, `key test`, `key remove openrouter`.

They are kept in keys.env of your configuration folder, which only you can read; what stands in the environment counts first.
A key is typed without being shown, or read from standard input; it is never an argument.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from agentos_jupyter import keys, paths
from agentos_jupyter.cli import text
from agentos_jupyter.errors import AgentOSError, ConfigError
from agentos_jupyter.models.providers import KNOWN
from agentos_jupyter.models.spoken import PROVIDERS, needs, variables_of
from agentos_jupyter.rpc.sync import SyncLink

SHOWN = 4
"""Last characters of a key that is long enough to stay a secret without them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["set", "list", "test", "remove"])
    parser.add_argument("name", nargs="?", help="a provider (openrouter) or a variable (OPENROUTER_API_KEY)")


def run(args: argparse.Namespace) -> int:
    if args.action in ("set", "remove") and args.name is None:
        raise ConfigError(f"`agentos key {args.action}` needs a provider ({', '.join(sorted(KNOWN))}) or a variable.")
    match args.action:
        case "set":
            return _set(variable(args.name))
        case "remove":
            return _remove(variable(args.name))
        case "list":
            return _list()
    return _test(args.name)


def variable(name: str) -> str:
    """The variable that holds a provider's key; a name in capitals is one already."""
    if name in KNOWN:
        return KNOWN[name].key
    if name in PROVIDERS:
        wanted = needs(name)
        if not wanted.key:
            more = ", ".join(each[0] for each in wanted.more.values())
            raise ConfigError(f"{name} has no one key{': set ' + more if more else ', and needs none'}.")
        return wanted.key[0]
    return name if keys.NAME.fullmatch(name) else "".join(c if c.isalnum() else "_" for c in name).upper() + "_API_KEY"


def _set(name: str) -> int:
    value = getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.readline()
    keys.save(name, value.strip())
    note = (
        " The environment has another one, which counts first."
        if os.environ.get(name, value.strip()) != value.strip()
        else ""
    )
    print(f"{name} is kept in {keys.file()}; a daemon that runs learns it with the next prompt.{note}")
    return 0


def _remove(name: str) -> int:
    if name not in keys.load():
        raise ConfigError(f"{name} is not kept in {keys.file()}: `agentos key list` shows what is.")
    keys.save(name, None)
    print(f"{name} is forgotten; a daemon that runs forgets it with the next prompt.")
    return 0


def _list() -> int:
    kept = keys.load()
    by_variable = _providers()
    names = sorted({*kept, *(name for name in by_variable if os.environ.get(name))})
    rows = [
        [name, by_variable.get(name, ""), _hint(os.environ.get(name) or kept[name]), _source(name)] for name in names
    ]
    print(
        text.table(["variable", "provider", "ends with", "from"], rows)
        if rows
        else "No key is known: `agentos key set PROVIDER`."
    )
    return 0


def _providers() -> dict[str, str]:
    """The provider of each key's variable: one that is asked directly, else the first of litellm's."""
    spoken = {
        each: name for name in sorted(PROVIDERS, reverse=True) for each in variables_of(name) if keys.is_key(each)
    }
    return spoken | {provider.key: name for name, provider in KNOWN.items()}


def _hint(value: str) -> str:
    return f"…{value[-SHOWN:]}" if len(value) >= 5 * SHOWN else "(short)"


def _source(name: str) -> str:
    return "the environment" if os.environ.get(name) else str(keys.file())


def _test(name: str | None) -> int:
    """Ask each provider whose key is known for the list of its models: the cheapest question that needs a key."""
    by_variable = _providers()
    known = {by_variable[each] for each in {**keys.load(), **os.environ} if each in by_variable}
    chosen = [by_variable.get(name, name)] if name else sorted(known & set(KNOWN))
    if not name and (others := known - set(KNOWN)):
        print(
            f"Not asked, because litellm lists no models of them: {', '.join(sorted(others))} (`agentos doctor --live`)"
        )
    if not chosen and not known:
        raise ConfigError("No key is known: `agentos key set PROVIDER` keeps one.")
    good = True
    with SyncLink(paths.workspace()) as link:
        for provider in chosen:
            try:
                found = link.call("model.reach", {"provider": provider})
                print(f"✓ {provider}: the key is accepted, {found['models']} models, {found['seconds']:.1f} s")
            except AgentOSError as error:
                good = False
                print(f"✗ {provider}: {text.visible(error.message)}")
    return 0 if good else 1
