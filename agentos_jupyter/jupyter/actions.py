"""What the `%` commands do: one function for each, named as in the table."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from agentos_jupyter import paths
from agentos_jupyter.errors import AgentOSError, CommandError, nearest
from agentos_jupyter.jupyter import manual
from agentos_jupyter.jupyter.display import Note
from agentos_jupyter.jupyter.knobs import agent, asked, budget, context, cost, hook, model, skill
from agentos_jupyter.jupyter.lines import pairs, when, words_of
from agentos_jupyter.jupyter.safe import one_line
from agentos_jupyter.jupyter.steering import steer
from agentos_jupyter.jupyter.table import COMMANDS
from agentos_jupyter.jupyter.watch import Watch
from agentos_jupyter.jupyter.words import count

if TYPE_CHECKING:
    from agentos_jupyter.jupyter.runner import Answer, CellRun


async def help(run: CellRun, args: str) -> None:
    """`%help`, `?name`."""
    run.screen.note(await manual.looked_up(args.strip().lstrip("%!?"), run.desk.call))


# -- sessions


async def session(run: CellRun, args: str) -> None:
    """`%session …`."""
    words = words_of("session", args, 0, 2)
    match words:
        case []:
            run.screen.note(await _session_text(run))
        case ["list"]:
            await _session_list(run)
        case ["new", *name]:
            run.screen.note(_began(await run.desk.new_session(*name)))
        case ["resume", ref]:
            await _use(run, await run.desk.call("session.get", {"session": ref}))
        case ["resume"]:
            raise CommandError("%session resume needs the id of a session: `%session list` shows them.")
        case [name]:
            await _named(run, name)
        case _:
            raise CommandError(f"%session is written: {' or '.join(COMMANDS['session'].usage)}.")


async def _named(run: CellRun, name: str) -> None:
    """Go on with the session of this name, or begin it."""
    from agentos_jupyter.errors import SessionNotFound

    try:
        found = await run.desk.call("session.get", {"session": name})
    except SessionNotFound:
        run.screen.note(_began(await run.desk.new_session(name)))
        return
    await _use(run, found)


async def _use(run: CellRun, found: dict[str, Any]) -> None:
    await run.desk.use(found)
    lines = [
        f"Going on with session {one_line(found['name'])} ({found['id']}): {count(found['turns'], 'turn') or 'no turn'} so far."
    ]
    if open_end := found.get("unfinished") or await _lost(run, found["id"]):
        lines.append(_not_ended(open_end, found.get("holder")))
    run.screen.note("\n".join(lines))


def _not_ended(dispatch_id: str, holder: str | None) -> str:
    """What can be done about a dispatch that has begun and not ended."""
    if holder:
        return (
            f"Its dispatch {dispatch_id} is held by {one_line(holder, 200)}: `%attach {dispatch_id}` follows it, "
            f"`%dispatch run {dispatch_id}` continues it when nobody holds it."
        )
    return (
        f"Its dispatch {dispatch_id} did not end: `%dispatch run {dispatch_id}` continues it, a new prompt gives it up."
    )


async def _lost(run: CellRun, session_id: str) -> str | None:
    """The session's last dispatch, where it was lost with the kernel that ran it: it may still be continued."""
    newest = (await run.desk.call("dispatch.list", {"session": session_id, "limit": 1}))["dispatches"]
    return next((each["id"] for each in newest if each["status"] == "lost" and each["kind"] == "prompt"), None)


def _began(created: dict[str, Any]) -> str:
    return f"New session {one_line(created['name'])} ({created['id']})."


async def _session_text(run: CellRun) -> str:
    if run.desk.session_info is None:
        return "This notebook has no session yet: the first prompt begins one. `%session list` shows those of the workspace."
    found = await run.desk.call("session.get", {"session": run.desk.session_info["id"]})
    rows = [
        ("session", f"{one_line(found['name'])} ({found['id']})"),
        ("phase", found["phase"] + (f", held by {found['holder']}" if found.get("holder") else "")),
        ("model", found["model"] or "the workspace's"),
        (
            "so far",
            f"{count(found['dispatches'], 'dispatch')}, {count(found['turns'], 'turn')}"
            if found["turns"]
            else "nothing",
        ),
        ("began", when(found["created"])),
        ("root", found["root"]),
    ]
    return pairs(rows)


async def _session_list(run: CellRun) -> None:
    sessions = (await run.desk.call("session.list", {"limit": 50}))["sessions"]
    here = run.desk.session_info["id"] if run.desk.session_info else None
    rows = [
        [
            "→" if each["id"] == here else "",
            each["id"],
            each["name"],
            each["phase"],
            each["dispatches"],
            each["turns"],
            when(each["created"]),
        ]
        for each in sessions
    ]
    run.screen.table(
        ["", "session", "name", "phase", "dispatches", "turns", "began"], rows, "`%session resume ID` goes on with one."
    )


# -- dispatches


async def runs(run: CellRun, args: str) -> None:
    """`%runs [NUMBER]`."""
    words = words_of("runs", args, 0, 1)
    if words and not (words[0].isdecimal() and 0 < int(words[0]) <= 1000):
        raise CommandError(f"%runs takes a number of dispatches from 1 to 1000, not {words[0]!r}.")
    found = (await run.desk.call("dispatch.list", {"limit": int(words[0]) if words else 20}))["dispatches"]
    rows = [
        [
            each["id"],
            each["status"],
            each["kind"],
            each["turns"],
            each["calls"],
            round(each["seconds"], 1),
            one_line(each["prompt"], 60),
            when(each["started"]),
        ]
        for each in found
    ]
    columns = ["dispatch", "status", "kind", "turns", "commands", "seconds", "prompt", "began"]
    run.screen.table(columns, rows, "`%attach ID` shows one again.")


async def attach(run: CellRun, args: str) -> Answer | None:
    """`%attach ID`: the dispatch from the log, then live until it ends."""
    [ref] = words_of("attach", args, 1, 1)
    info = await run.desk.call("dispatch.get", {"dispatch": ref})
    run.screen.metadata.update(
        {"session": info["session"], "dispatch": info["id"], "from": info["first"], "harness": info["harness"]}
    )
    run.screen.add(Note(f"{info['id']}: {one_line(info['prompt'], 200)}"))
    watch = Watch(run.screen, info["kind"] == "person", info["seconds"])
    async with watch.ticking():
        ended = await run.desk.call("dispatch.follow", {"dispatch": info["id"]}, watch.followed)
    if ended["status"] == "running":
        run.screen.note("The daemon stopped while this dispatch ran: `%attach` again to follow it.")
        return None
    watch.end(ended)
    if ended.get("error"):
        run.screen.note(f"It ended with {ended['error']['code']}: {ended['error']['message']}")
    return run.answer(ended) if ended["kind"] == "prompt" and ended["status"] == "ok" else None


async def dispatch(run: CellRun, args: str) -> Answer:
    """`%dispatch run ID`."""
    words = words_of("dispatch", args, 2, 2)
    if words[0] != "run":
        raise CommandError(nearest("word after %dispatch", words[0], ["run"]))
    info = await run.desk.call("dispatch.get", {"dispatch": words[1]})
    found = await run.desk.call("session.get", {"session": info["session"]})
    await run.desk.use(found)
    unit = await run.desk.unit()
    run.screen.add(Note(f"{info['id']}: {one_line(info['prompt'], 200)}"))
    watch = Watch(run.screen)
    return await run.dispatch(watch, unit.resume(info["session"], info["id"], on=watch, **run.client()))


# -- the whole


async def verify(run: CellRun, args: str) -> Answer:
    """`%verify [FILE]`."""
    from agentos_jupyter.jupyter import saved, tables
    from agentos_jupyter.jupyter.runner import Answer
    from agentos_jupyter.jupyter.verify import COLUMNS, verify

    name = next(iter(words_of("verify", args, 0, 1)), run.desk.notebook())
    if name is None:
        raise CommandError("This front end does not tell where the notebook is: write %verify FILE.")
    report = await verify(run.desk.call, await asyncio.to_thread(saved.load, paths.workspace(), name))
    shown = COLUMNS, report.rows(), report.sentence
    data = {"text/html": tables.html(*shown), "text/plain": tables.text(*shown)}
    return Answer(data, [dict(zip(COLUMNS, row, strict=True)) for row in report.rows()])


async def status(run: CellRun, args: str) -> None:
    """`%status`."""
    words_of("status", args, 0, 0)
    info = await run.desk.call("system.info")
    health = await run.desk.call("system.health")
    try:
        from agentos_jupyter.sandbox import probe

        tier = await probe()
        sandbox = f"{tier.name}: {tier.reason} {tier.cure}".strip()
    except AgentOSError as error:
        sandbox = error.message
    session_info = run.desk.session_info
    rows = [
        ("workspace", info["workspace"]),
        (
            "daemon",
            f"AgentOS {info['version']}, process {info['pid']}, "
            f"{count(info['sessions'], 'session') or 'no session'}, {info['running']} running",
        ),
        ("model", await asked(run)),
        ("sandbox", sandbox),
        (
            "session",
            f"{one_line(session_info['name'])} ({session_info['id']})"
            if session_info
            else "none yet: the first prompt begins one",
        ),
        *_kept(info["position"], await run.desk.call("storage.get")),
        *(("salvaged", salvage) for salvage in info.get("salvages", ())),
        *(("problem", problem) for problem in health["problems"]),
    ]
    run.screen.note(pairs(rows))


def _kept(events: int, found: dict[str, Any]) -> list[tuple[str, str]]:
    """What is kept on the disk, how much room is left, and when it was last copied."""
    content = f"{found['blobs'] / 1e6:.1f} MB of content, {found['other'] / 1e6:.1f} MB of other state"
    last, failed = found["backup"], found["failed"]
    backup = f"{when(last['made'])}, up to event {last['position']}" if last else "none yet: `agentos backup FOLDER`"
    return [
        ("log", f"{events} events, {found['log'] / 1e6:.1f} MB, {content}"),
        ("disk", f"{found['free'] / 1e9:.1f} GB free"),
        ("backup", backup + (f"; then failed: {failed['message']}" if failed else "")),
    ]


_ALL = (agent, attach, budget, context, cost, dispatch, help, hook, model, runs, session, skill, status, steer, verify)

ACTIONS: Mapping[str, Callable[[CellRun, str], Awaitable[Answer | None]]] = {each.__name__: each for each in _ALL}
"""What carries out each `%` command of the table."""
