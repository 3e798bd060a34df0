"""Runs dispatches for one front end: begin, the loop, end; and the sandboxes of the sessions it works on."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentos_jupyter.errors import AgentOSError, BudgetExceeded, InternalError, LeaseExpired, SandboxUnavailable
from agentos_jupyter.records import JudgedCall, Observation, Reply
from agentos_jupyter.sandbox import Changes, Limits, Listing, Sandbox, Tier, diff, listing, probe
from agentos_jupyter.unit.loop import react
from agentos_jupyter.unit.tools import BASH, Bash, Putter, Tool, put
from agentos_jupyter.unit.turn import Observer, Turn, carried_through, judged_call

PUT_ABOVE = 256 * 1024
"""Bytes of a prompt above which it is put as content first."""


BEGIN_SECONDS = 5.0
"""How long an interrupt waits to learn whether the dispatch had begun."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a dispatch ended: the daemon's record, and the error that stopped it, if one did."""

    info: Mapping[str, Any]
    error: AgentOSError | None = None
    observation: Observation | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image to attach: its bytes, media type (`image/png`, …) and a name for people."""

    data: bytes
    mime: str
    name: str


@dataclass(frozen=True, slots=True)
class Asked:
    """How a prompt is asked, beside its text: another model, the JSON Schema of the answer, limits, images."""

    model: str | None = None
    schema: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    images: Sequence[Image] = ()


_PLAIN = Asked()


class Unit:
    """The dispatches of one front end, one at a time, over a link to the daemon.

    Cancelling the asyncio.Task that waits for `prompt`, `command` or `resume` interrupts the dispatch: the model call is
    cut, the running command and its whole tree are killed, and both are facts before the cancellation goes on.
    """

    def __init__(self, link: Putter, on: Observer, client: Mapping[str, Any]) -> None:
        self._link, self._on, self._client = link, on, dict(client)
        self._boxes: dict[str, Sandbox] = {}
        self.running: str | None = None
        self._task: asyncio.Task[Any] | None = None

    async def prompt(
        self, session: str, text: str, asked: Asked = _PLAIN, *, on: Observer | None = None, **client: Any
    ) -> Outcome:
        """Dispatch a prompt. Errors of the model, of limits or of the lease are in the outcome; those before it began are raised."""
        images = [
            {"digest": await put(self._link, io.BytesIO(image.data)), "mime": image.mime, "name": image.name}
            for image in asked.images
        ]
        more = {"model": asked.model, "answer_schema": asked.schema, "limits": dict(asked.limits), "images": images}
        return await self._dispatch(on or self._on, {"session": session, **await self._prompt(text), **more}, client)

    async def resume(self, session: str, dispatch: str, *, on: Observer | None = None, **client: Any) -> Outcome:
        """Begin an unfinished dispatch again and run it to its end."""
        return await self._dispatch(on or self._on, {"session": session, "dispatch": dispatch}, client)

    async def command(self, session: str, command: str, *, on: Observer | None = None, **client: Any) -> Outcome:
        """The person's own command in the agent's sandbox: recorded like a call, without a model."""
        on = on or self._on
        began = await self._begin({"session": session, "prompt": command, "kind": "person"}, client, [])
        return await self._run(began, on, lambda: self._person(began, command, on))

    async def aclose(self) -> None:
        """End every sandbox."""
        boxes, self._boxes = list(self._boxes.values()), {}
        for box in boxes:
            await box.aclose()

    def interrupted(self, method: str, params: Mapping[str, Any]) -> None:
        """A notice from the daemon: somebody interrupts the dispatch that runs here."""
        if method == "unit.interrupt" and params.get("dispatch") == self.running and self._task is not None:
            self._task.cancel()

    # -- the life of a dispatch

    async def _dispatch(self, on: Observer, params: dict[str, Any], client: Mapping[str, Any]) -> Outcome:
        began = await self._begin(params, client, [asdict(BASH)])
        return await self._run(began, on, lambda: self._react(began, on))

    async def _begin(
        self, params: dict[str, Any], client: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        given = {name: value for name, value in params.items() if value is not None}
        more = {"tools": tools, "client": {**self._client, **client}, "key": secrets.token_hex(12)}
        beginning = asyncio.ensure_future(self._link.call("dispatch.begin", {**given, **more}))
        try:
            return dict(await asyncio.shield(beginning))
        except asyncio.CancelledError:
            await self._take_back(beginning)
            raise

    async def _take_back(self, beginning: asyncio.Future[Any]) -> None:
        """End a dispatch that was interrupted before we knew that it had begun."""
        await asyncio.wait([beginning], timeout=BEGIN_SECONDS)
        beginning.cancel()
        with contextlib.suppress(AgentOSError, asyncio.CancelledError):
            began = await beginning
            handle = {"dispatch": began["dispatch"], "epoch": began["epoch"]}
            await self._link.call("dispatch.end", {**handle, "status": "interrupted"})

    async def _react(self, began: Mapping[str, Any], on: Observer) -> Reply:
        tools: dict[str, Tool] = {"bash": await self._bash(began)}
        async with asyncio.timeout(began["limits"]["wall"]):
            return await react(Turn(self._link, began, tools, on))

    async def _person(self, began: Mapping[str, Any], command: str, on: Observer) -> Observation:
        bash = await self._bash(began)
        begin = {
            "dispatch": began["dispatch"],
            "epoch": began["epoch"],
            "name": "bash",
            "arguments": {"command": command},
        }
        judged = judged_call(await self._link.call("tool.begin", {**begin, "key": secrets.token_hex(12)}))
        last = _Last(on)
        turn = Turn(self._link, began, {"bash": bash}, last)
        await turn.observe(judged, await turn.act(judged))
        assert last.observation is not None
        return last.observation

    async def _run(
        self, began: Mapping[str, Any], on: Observer, work: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Outcome:
        """Do the work, then write how it ended, whatever happened."""
        root = Path(began["root"])
        before: Listing | None = None
        self.running, self._task = began["dispatch"], asyncio.current_task()
        error: AgentOSError | None = None
        observation = None
        try:
            before = await asyncio.to_thread(listing, root)
            on.began(began)
            result = await work()
            observation = result if isinstance(result, Observation) else None
            status = "ok"
        except asyncio.CancelledError:
            with contextlib.suppress(AgentOSError):  # ended by somebody else, or by the daemon later
                await carried_through(self._end(began, "interrupted", root, before, None))
            raise
        except (BudgetExceeded, TimeoutError) as caught:
            status, error = "limit", _limit(caught, began)
        except LeaseExpired as caught:
            return await self._lost(began, caught)
        except AgentOSError as caught:
            status, error = "failed", caught
        except Exception as caught:  # a defect must not leave the session held
            status, error = "failed", InternalError(f"A defect in AgentOS: {type(caught).__name__}: {caught}.")
        finally:
            self.running = self._task = None
        try:
            return Outcome(await carried_through(self._end(began, status, root, before, error)), error, observation)
        except LeaseExpired as caught:
            return await self._lost(began, caught)

    async def _lost(self, began: Mapping[str, Any], error: LeaseExpired) -> Outcome:
        return Outcome(await self._link.call("dispatch.get", {"dispatch": began["dispatch"]}), error)

    async def _end(
        self, began: Mapping[str, Any], status: str, root: Path, before: Listing | None, error: AgentOSError | None
    ) -> Any:
        params = {"dispatch": began["dispatch"], "epoch": began["epoch"], "status": status}
        if before is not None:
            params["changed"] = _changes(diff(before, await asyncio.to_thread(listing, root)))
        if error is not None:
            params["error"] = {"code": error.code, "message": error.message}
        return await self._link.call("dispatch.end", params)

    # -- what a dispatch needs

    async def _prompt(self, text: str) -> dict[str, Any]:
        """The prompt, or, when it is too long for a frame, the digest of where it was put."""
        raw = text.encode("utf-8", "replace")
        if len(raw) <= PUT_ABOVE:
            return {"prompt": text}
        return {"prompt_ref": await put(self._link, io.BytesIO(raw))}

    async def _bash(self, began: Mapping[str, Any]) -> Bash:
        session, limits = began["session"], began["limits"]
        fresh = session not in self._boxes
        if fresh:
            self._boxes[session] = Sandbox(
                Path(began["root"]), await sandbox_tier(), _limits(limits), protected=tuple(began["protected"])
            )
        return Bash(self._boxes[session], self._link, limits["command"], fresh and began["earlier"] > 0)


async def sandbox_tier() -> Tier:
    """The tier that works here. Raises `SandboxUnavailable` with the reason and the cure: bash never runs bare."""
    tier = await probe()
    if tier.name == "none":
        raise SandboxUnavailable(f"bash is refused, because no sandbox works here: {tier.reason} {tier.cure}")
    return tier


def _limits(limits: Mapping[str, Any]) -> Limits:
    same = ("processes", "open_files", "memory", "file_size", "tmp", "shm", "output")
    return Limits(
        wall=limits["command"],
        cpu=round(limits["cpu"]),
        full=limits["output_full"],
        flood=limits["output_flood"],
        **{name: limits[name] for name in same},
    )


def _limit(caught: Exception, began: Mapping[str, Any]) -> BudgetExceeded:
    if isinstance(caught, BudgetExceeded):
        return caught
    return BudgetExceeded(
        f"The dispatch used its {began['limits']['wall']:g} seconds (limits.wall): say `go on`, or raise the limit in agentos.yaml."
    )


def _changes(changes: Changes) -> dict[str, Any]:
    return {
        "created": list(changes.created),
        "modified": list(changes.modified),
        "deleted": list(changes.deleted),
        "more": changes.more,
    }


class _Last:
    """Hands everything on and keeps the last observation."""

    def __init__(self, on: Observer) -> None:
        self._on = on
        self.observation: Observation | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._on, name)

    def result(self, judged: JudgedCall, observation: Observation) -> None:
        self.observation = observation
        self._on.result(judged, observation)
