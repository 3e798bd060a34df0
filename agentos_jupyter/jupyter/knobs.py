"""The commands about who is asked, within which limits, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentos_jupyter.errors import AgentOSError, CommandError, nearest
from agentos_jupyter.jupyter.cells import options
from agentos_jupyter.jupyter.lines import pairs, words_of
from agentos_jupyter.jupyter.safe import one_line
from agentos_jupyter.jupyter.table import LIMITS
from agentos_jupyter.jupyter.words import model_name

if TYPE_CHECKING:
    from agentos_jupyter.jupyter.runner import CellRun

SECONDS = frozenset({"wall", "command", "compute"})
"""Limits that are seconds."""


async def agent(run: CellRun, args: str) -> None:
    """`%agent`, `%agent list`, `%agent NAME`."""
    match words_of("agent", args, 0, 1):
        case []:
            found = await run.desk.call("agent.get", {"name": run.desk.agent})
            limits = " ".join(f"{name}={value}" for name, value in found["limits"].items())
            rows = [
                ("agent", f"{found['name']} {found['description']}".strip()),
                ("model", found["model"] or "the workspace's"),
                ("limits", limits or "the workspace's"),
            ]
            run.screen.note(pairs(rows))
        case ["list"]:
            listed = (await run.desk.call("agent.list"))["agents"]
            table = [[each["name"], each["description"], each["model"] or ""] for each in listed]
            run.screen.table(["agent", "description", "model"], table, "`%agent NAME` makes one this notebook's.")
        case [name]:
            found = await run.desk.call("agent.get", {"name": name})
            chosen = await run.desk.of_agent(name)
            await run.desk.use(chosen)
            run.screen.note(f"Prompts go to the agent {one_line(found['name'])} now, in session {chosen['id']}.")


async def model(run: CellRun, args: str) -> None:
    """`%model`, `%model list`, `%model NAME`."""
    match words_of("model", args, 0, 1):
        case []:
            rows = [
                ("model" if number == 0 else "fallback", _model(each)) for number, each in enumerate(await _chain(run))
            ]
            run.screen.note(pairs(rows))
        case ["list"]:
            found = await run.desk.call("model.list")
            rows_ = [
                [
                    "→" if each["name"] == found["default"] else "",
                    each["name"],
                    each["role"] or "",
                    each["reason"] or "ready",
                ]
                for each in found["models"]
            ]
            run.screen.table(["", "model", "role", "state"], rows_, "`%model NAME` gives this notebook's session one.")
        case [name]:
            session_now = await run.session()
            await run.desk.call("session.update", {"session": session_now["id"], "model": name})
            chain = (await run.desk.call("model.resolve", {"name": name}))["chain"]
            run.screen.note(f"This session asks {_model(chain[0])} from its next prompt on.")


async def asked(run: CellRun) -> str:
    """The model that this notebook's next prompt asks, or why none can be."""
    try:
        first = (await _chain(run))[0]
        return model_name(first["name"], first["scripted"])
    except AgentOSError as error:
        return f"none: {error.message}"


async def _chain(run: CellRun) -> list[dict[str, Any]]:
    session = run.desk.session_info
    chosen = (await run.desk.call("session.get", {"session": session["id"]}))["model"] if session else None
    chain: list[dict[str, Any]] = (await run.desk.call("model.resolve", {"name": chosen}))["chain"]
    return chain


def _model(info: dict[str, Any]) -> str:
    parts = [model_name(info["name"], info["scripted"]), f"{info['window']} tokens" if info.get("window") else ""]
    if info.get("price_input") is not None:
        parts.append(f"${info['price_input']:g} in, ${info['price_output']:g} out for a million tokens")
    return " · ".join(part for part in parts if part)


async def skill(run: CellRun, args: str) -> None:
    """`%skill list`, `%skill NAME`."""
    [word] = words_of("skill", args, 1, 1)
    found = {each["name"]: each for each in (await run.desk.call("skill.list"))["skills"]}
    if word == "list":
        rows = [[each["name"], "running" if each["running"] else "", each["description"]] for each in found.values()]
        run.screen.table(["skill", "service", "description"], rows)
        return
    if word not in found:
        raise CommandError(nearest("skill", word, found))
    each = found[word]
    service = "running" if each["running"] else "not running" if each["service"] else "none"
    facts = [(name, str(each[name])) for name in ("name", "description", "folder", "digest")]
    run.screen.note(pairs([*facts, ("service", service)]))


async def hook(run: CellRun, args: str) -> None:
    """`%hook list`, `%hook NAME`."""
    [word] = words_of("hook", args, 1, 1)
    found = {each["name"]: each for each in (await run.desk.call("hook.list"))["hooks"]}
    if word == "list":
        rows = [[each["name"], each["kind"], _handlers(each), each["doc"]] for each in found.values()]
        run.screen.table(["hook", "kind", "skills, in the order they are asked", "is"], rows)
        return
    if word not in found:
        raise CommandError(nearest("hook", word, found))
    each = found[word]
    run.screen.note(
        pairs([("hook", word), ("kind", each["kind"]), ("skills", _handlers(each) or "none"), ("is", each["doc"])])
    )


def _handlers(hook_info: dict[str, Any]) -> str:
    return ", ".join(each["skill"] for each in hook_info["handlers"])


async def budget(run: CellRun, args: str) -> None:
    """`%budget`, `%budget LIMIT=VALUE …`, `%budget reset`."""
    session_now = await run.session()
    if args.strip() == "reset":
        await run.desk.call("session.update", {"session": session_now["id"], "limits": {}})
    elif args.strip():
        found = await run.desk.call("session.get", {"session": session_now["id"]})
        changed = {**found["limits"], **options("budget", args)}
        await run.desk.call("session.update", {"session": session_now["id"], "limits": changed})
    found = await run.desk.call("session.get", {"session": session_now["id"]})
    limits = (await run.desk.call("session.limits", {"session": session_now["id"]}))["limits"]
    last = run.desk.client.dispatch or {}
    usage = last.get("usage") or {}
    used = {
        "turns": last.get("turns"),
        "wall": last.get("seconds"),
        "tokens": (usage.get("input") or 0) + (usage.get("output") or 0) if usage else None,
        "usd": usage.get("usd"),
    }
    own = dict.fromkeys(found["limits"], "this session's own")
    rows = [[name, _amount(name, limits[name]), _amount(name, used.get(name)), own.get(name, "")] for name in LIMITS]
    note = "`%budget turns=80` sets one, `%budget reset` unsets all."
    run.screen.table(["limit", "a dispatch may use", "the last one used", ""], rows, note)


def _amount(name: str, value: float | None) -> str:
    """A limit, or what was used of it, with its unit."""
    if value is None:
        return ""
    if name == "usd":
        return f"${value:g}"
    return f"{value:g} s" if name in SECONDS else f"{value:,}"


async def cost(run: CellRun, args: str) -> None:
    """`%cost`: what was spent, by model, here and in the workspace; what the next prompt sends at least."""
    words_of("cost", args, 0, 0)
    here = run.desk.session_info["id"] if run.desk.session_info else ""
    spent = await run.desk.call("sql.query", {"sql": _SPENT.format(session=here)})
    if not spent["rows"]:
        run.screen.note(f"Nothing was spent in this workspace yet. {await _next(run, here)}")
        return
    run.screen.table(spent["columns"], spent["rows"], await _next(run, here))


_SPENT = """
select case when session = '{session}' then 'this session' else 'other sessions' end as "where", model,
       count(*) as turns, sum(input) as input, sum(cached) as cached, sum(output) as output, round(sum(usd), 4) as usd
from costs group by all order by 1 desc, 2
"""


async def _next(run: CellRun, session_id: str) -> str:
    if not session_id:
        return "This notebook has no session yet: the first prompt begins one."
    explained = await run.desk.call("context.explain", {"session": session_id})
    tokens = explained["tokens"]
    found = await run.desk.call("session.get", {"session": session_id})
    first = (await run.desk.call("model.resolve", {"name": found["model"]}))["chain"][0]
    price = first.get("price_input")
    money = f", ${tokens * price / 1e6:.4f} at least" if price else ""
    name = model_name(first["name"], first["scripted"])
    return f"The next prompt sends about {tokens} tokens of context ({BASIS[explained['basis']]}) to {name}{money}."


BASIS = {
    "provider": "estimated from what the provider counted last",
    "count": "counted, as cl100k_base counts",
    "guess": "a guess from their size",
}
"""What stands behind a number of tokens."""


async def context(run: CellRun, args: str) -> None:
    """`%context`."""
    words_of("context", args, 0, 0)
    if run.desk.session_info is None:
        run.screen.note("This notebook has no session yet: the first prompt begins one.")
        return
    session_id = run.desk.session_info["id"]
    found = await run.desk.call("context.explain", {"session": session_id})
    rows = [
        [number, each["role"], f"event {each['event']}" if each["event"] else each["text"], each["bytes"], begins]
        for number, (each, begins) in enumerate(
            zip(found["sources"], await _beginnings(run, session_id), strict=False), 1
        )
    ]
    note = f"About {found['tokens']} tokens, {BASIS[found['basis']]}."
    run.screen.table(["", "role", "from", "bytes", "begins"], rows, note)


async def _beginnings(run: CellRun, session_id: str) -> list[str]:
    """The first words of each message that the model sees."""
    texts: list[str] = []
    after: int | None = 0
    while after is not None:
        page = await run.desk.call("context.get", {"session": session_id, "after": after})
        texts += [_text(message) for message in page["messages"]]
        after = page["next"]
    return texts


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    parts = [part.get("text", f"[{part.get('type')}]") for part in content] if isinstance(content, list) else [content]
    calls = [f"{call['function']['name']} {call['function']['arguments']}" for call in message.get("tool_calls") or ()]
    return one_line(" ".join([*parts, *calls])[:400], 60)
