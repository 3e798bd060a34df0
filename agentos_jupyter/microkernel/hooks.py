"""The extension points: one table of hooks, and how their handlers are asked.

Admission hooks judge (may rewrite, reject or ask; an error or timeout is a rejection), transform hooks
rewrite (an error leaves the data as it was), observers watch (errors are recorded and forgotten). One
rejection is enough, and no later judge can overrule it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentos_jupyter.errors import AgentOSError, HookFailed, HookUnknown, NoContextEngine, nearest
from agentos_jupyter.records import Reject, Wait

Kind = Literal["admission", "transform", "observe"]
Data = dict[str, Any]
log = logging.getLogger(__name__)

HOOKS: dict[str, tuple[Kind, str]] = {
    "dispatch.before": ("admission", "A dispatch is about to begin. input: session, kind, client; output: prompt."),
    "compute.before": (
        "admission",
        "The model is about to be asked. input: session, dispatch, turn, tokens; output: params.",
    ),
    "tool.before": (
        "admission",
        "A tool call is about to be allowed. input: session, dispatch, turn, actor; output: tool, args.",
    ),
    "session.assemble": (
        "transform",
        "Required. What should the model see? input: session, dispatch, reason (start | over), base, outline, texts, "
        "system, files, tokens, budget; output: plan. The engine answers with a plan.",
    ),
    "tool.after": (
        "transform",
        "A tool call has ended, its result is not stored yet. input: session, dispatch, tool, args; output: text.",
    ),
    "turn.after": ("observe", "A reply was committed. input: session, dispatch, turn, usage, model."),
    "tool.ended": ("observe", "A tool result was committed. input: session, dispatch, id, tool, status, seconds."),
    "dispatch.after": ("observe", "A dispatch has ended. input: session, dispatch, status, turns, calls, seconds."),
    "session.interrupted": ("observe", "A person stopped a dispatch. input: session, dispatch."),
}
"""Every hook that fires, with its kind and its manual. A handler is registered for a name of this table only."""

Invoke = Callable[[str, Data, Data], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Handler:
    """One skill's handler of one hook; `invoke(hook, input, output)` answers or raises."""

    hook: str
    skill: str
    digest: str
    invoke: Invoke
    priority: int = 100
    timeout: float = 2.0
    tools: frozenset[str] = frozenset()

    def wants(self, given: Mapping[str, Any]) -> bool:
        """Whether the handler's `when` filter lets this call through; an empty filter lets everything through."""
        return not self.tools or given.get("tool") in self.tools


@dataclass(slots=True)
class Judged:
    """What an admission hook came to: the final output, or the verdict that stopped it."""

    output: Data
    stopped: Reject | Wait | None = None
    receipts: list[Data] = field(default_factory=list)


class Hooks:
    """The handlers in force, by hook, in order of priority, then name."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {name: [] for name in HOOKS}
        self._observing: set[asyncio.Task[None]] = set()

    def register(self, handler: Handler) -> None:
        """Put a handler in force. Raises `HookUnknown` with the nearest name."""
        if handler.hook not in HOOKS:
            raise HookUnknown(nearest("hook", handler.hook, HOOKS))
        handlers = self._handlers[handler.hook]
        handlers.append(handler)
        handlers.sort(key=lambda each: (each.priority, each.skill))

    def unregister(self, skill: str) -> None:
        for name, handlers in self._handlers.items():
            self._handlers[name] = [each for each in handlers if each.skill != skill]

    def handlers(self, hook: str) -> list[Handler]:
        return list(self._handlers[hook])

    async def judge(self, hook: str, given: Data, output: Data) -> Judged:
        """Ask every judge. If one rewrote, all see the final form once more and may only allow or reject it."""
        judges = [each for each in self._handlers[hook] if each.wants({**given, **output})]
        judged = Judged(output)
        for judge in judges:
            await _ask(judge, given, judged)
            if judged.stopped is not None:
                return judged
        if any(receipt["verdict"] == "rewrite" for receipt in judged.receipts):
            await self._confirm(judges, given, judged)
        return judged

    async def _confirm(self, judges: list[Handler], given: Data, judged: Judged) -> None:
        writers = [receipt["skill"] for receipt in judged.receipts if receipt["verdict"] == "rewrite"]
        for judge in judges:
            final = judged.output
            await _ask(judge, given, judged)
            if judged.stopped is None and judged.output != final:
                judged.stopped = Reject(
                    f"hook.unstable: {judge.skill} rewrites again what {writers[-1]} rewrote in {judge.hook}"
                )
            if judged.stopped is not None:
                return

    async def transform(self, hook: str, given: Data, output: Data) -> tuple[Data, list[Data]]:
        """Let each handler rewrite in turn; one that fails leaves the data as it was."""
        receipts: list[Data] = []
        for handler in self._handlers[hook]:
            if not handler.wants({**given, **output}):
                continue
            started = time.perf_counter()
            try:
                answer = await _invoke(handler, given, output)
            except (AgentOSError, TimeoutError) as error:
                receipts.append(_receipt(handler, started, "failed", str(error) or "no answer in time"))
                continue
            if answer is None or answer == output:
                continue
            if not isinstance(answer, dict) or not _alike(answer, output):
                receipts.append(_receipt(handler, started, "failed", "the answer is not the output it was given"))
                continue
            output = answer
            receipts.append(_receipt(handler, started, "rewrite"))
        return output, receipts

    async def assemble(self, engine: str, given: Data) -> Any:
        """The chosen context engine's plan. Raises `NoContextEngine` naming the choices.

        Nothing goes on without a plan, and asking for one does nothing: an engine that was killed is asked once more.
        """
        offers = self._handlers["session.assemble"]
        for handler in offers:
            if handler.skill == engine:
                try:
                    return await _invoke(handler, given, {"plan": None})
                except HookFailed as error:
                    if not error.data.get("died"):
                        raise
                    return await _invoke(handler, given, {"plan": None})
        names = ", ".join(each.skill for each in offers) or "none"
        raise NoContextEngine(
            f"The context engine {engine!r} is not there (offered: {names}): correct `context:` in agentos.yaml."
        )

    def observe(self, hook: str, given: Data) -> None:
        """Tell the observers, without waiting for them."""
        for handler in self._handlers[hook]:
            if handler.wants(given):
                task = asyncio.get_running_loop().create_task(_watch(handler, given))
                self._observing.add(task)
                task.add_done_callback(self._observing.discard)

    async def aclose(self) -> None:
        for task in self._observing:
            task.cancel()
        await asyncio.gather(*self._observing, return_exceptions=True)


async def _invoke(handler: Handler, given: Data, output: Data) -> Any:
    async with asyncio.timeout(handler.timeout):
        return await handler.invoke(handler.hook, given, output)


async def _watch(handler: Handler, given: Data) -> None:
    try:
        await _invoke(handler, given, {})
    except (AgentOSError, TimeoutError) as error:
        log.warning("observer %s of %s failed: %s", handler.skill, handler.hook, error or "no answer in time")


async def _ask(judge: Handler, given: Data, judged: Judged) -> None:
    """One judge's answer, written into `judged`; whatever is no clear answer is a rejection."""
    started = time.perf_counter()
    try:
        answer = await _invoke(judge, given, judged.output)
    except TimeoutError:
        _stop(
            judge,
            started,
            judged,
            Reject(f"{judge.skill} did not judge {judge.hook} within {judge.timeout:g} s"),
            "failed",
        )
        return
    except AgentOSError as error:
        _stop(judge, started, judged, Reject(f"{judge.skill} failed to judge {judge.hook}: {error.message}"), "failed")
        return
    match answer:
        case {"verdict": "reject", **rest}:
            _stop(judge, started, judged, Reject(str(rest.get("reason") or f"rejected by {judge.skill}")), "reject")
        case {"verdict": "ask", **rest}:
            _stop(judge, started, judged, Wait(str(rest.get("question") or f"{judge.skill} asks")), "ask")
        case None | {"verdict": "allow"}:
            judged.receipts.append(_receipt(judge, started, "allow"))
        case dict() if "verdict" not in answer and _alike(answer, judged.output):
            judged.receipts.append(_receipt(judge, started, "rewrite" if answer != judged.output else "allow"))
            judged.output = answer
        case _:
            said = f"{judge.skill} answered {judge.hook} with neither a verdict nor the output it was given"
            _stop(judge, started, judged, Reject(said), "failed")


def _alike(answer: Data, output: Data) -> bool:
    """Whether an answer is a rewrite of the output: the same names, and the same kinds of values."""
    return answer.keys() == output.keys() and all(type(answer[name]) is type(output[name]) for name in output)


def _stop(judge: Handler, started: float, judged: Judged, verdict: Reject | Wait, word: str) -> None:
    judged.stopped = verdict
    reason = verdict.reason if isinstance(verdict, Reject) else verdict.approval
    judged.receipts.append(_receipt(judge, started, word, reason))


def _receipt(handler: Handler, started: float, verdict: str, reason: str | None = None) -> Data:
    receipt: Data = {
        "skill": handler.skill,
        "digest": handler.digest,
        "verdict": verdict,
        "ms": round((time.perf_counter() - started) * 1000, 2),
    }
    return receipt if reason is None else {**receipt, "reason": reason}
