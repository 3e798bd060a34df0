"""The newest dispatches of a workspace, asked of the log at once: no session is folded for a list."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentos_jupyter.errors import DispatchNotFound, closest
from agentos_jupyter.microkernel import ids
from agentos_jupyter.microkernel.sessions import Dispatch, Session
from agentos_jupyter.microkernel.shapes import Changes, DispatchInfo, ErrorInfo, UsageInfo

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel

MANY = 16
"""Sessions that a beginning of an id may name before it is too short to look them through."""

_NEWEST = """
select dispatch from events where type = 'dispatch.started' and starts_with(stream, 'session/')
group by dispatch order by min(position) desc limit {limit}
"""

_FOLDED = """
with facts as (select * from events where starts_with(stream, 'session/') and dispatch in ({ids})),
started as (select dispatch, stream, arg_min(data, position) as data, min(time) as time,
                   arg_max(data->>'$.harness', position) as harness
            from facts where type = 'dispatch.started' group by dispatch, stream),
spoken as (select dispatch, count(*) as turns, arg_max(data, position) as data,
                  sum(try_cast(data->>'$.usage.input' as bigint)) as input,
                  sum(try_cast(data->>'$.usage.output' as bigint)) as output,
                  sum(try_cast(data->>'$.usage.cached' as bigint)) as cached,
                  sum(try_cast(data->>'$.usage.usd' as double)) as usd
           from facts where type = 'assistant.message' group by dispatch),
whole as (select dispatch, min(version) as first, max(version) as last, count(*) filter (type = 'tool.call') as calls,
                 arg_max(type, position) filter (type in ('dispatch.started', 'dispatch.ended')) as state,
                 arg_max(data, position) filter (type = 'dispatch.ended') as ended
          from facts group by dispatch)
select dispatch, substr(started.stream, 9), started.time, left(started.data->>'$.prompt', 4000), started.data->>'$.kind',
       started.data->>'$.agent', started.data->'$.limits', harness, coalesce(spoken.turns, 0), calls,
       coalesce(left(ended->>'$.answer', 4000), left(spoken.data->>'$.text', 4000)), spoken.data->>'$.model',
       spoken.data->>'$.scripted' = 'true', input, output, cached, usd,
       case state when 'dispatch.ended' then ended->>'$.status' else 'running' end,
       try_cast(ended->>'$.seconds' as double), ended->'$.changed', ended->'$.error', first, last
from started join whole using (dispatch) left join spoken using (dispatch)
"""


async def newest(kernel: Microkernel, limit: int) -> list[DispatchInfo]:
    """The newest dispatches first; those of sessions in memory as they stand there."""
    names = [str(row[0]) for row in await _rows(kernel, _NEWEST.format(limit=limit), limit)]
    live = {name: dispatch.info() for session in kernel.live() for name, dispatch in session.dispatches.items()}
    stored = [name for name in names if name not in live]
    if stored:
        listed = ", ".join("'" + name.replace("'", "''") + "'" for name in stored)
        live |= {str(row[0]): _info(row) for row in await _rows(kernel, _FOLDED.format(ids=listed), limit)}
    return [live[name] for name in names if name in live]


async def _rows(kernel: Microkernel, sql: str, limit: int) -> list[list[Any]]:
    limits = kernel.limits()
    found = await kernel.log.query(sql, max_rows=limit, max_bytes=limits.sql_bytes, seconds=limits.sql_seconds)
    return found.rows


def _info(row: Sequence[Any]) -> DispatchInfo:
    """A dispatch as the log tells it."""
    dispatch, session, started, prompt, kind, agent, limits, harness, turns, calls, answer, model, scripted, *rest = row
    read, written, cached, usd, status, seconds, changed, error, first, last = rest
    changes, mistake = _object(changed), _object(error)
    return DispatchInfo(
        id=dispatch,
        session=session,
        kind=kind,
        status=status,
        started=f"{started}+00:00",
        prompt=prompt or "",
        answer=answer or "",
        model=model,
        scripted=bool(scripted),
        turns=turns,
        calls=calls,
        seconds=seconds or 0.0,
        usage=UsageInfo(input=read or 0, output=written or 0, cached=cached or 0, usd=usd),
        changed=Changes(**changes) if changes else None,
        error=ErrorInfo(**mistake) if mistake else None,
        harness=harness or "",
        agent=agent or "",
        limits=_object(limits),
        first=first,
        last=last,
    )


def _object(value: Any) -> dict[str, Any]:
    """A JSON object of the log; an empty one for none."""
    return dict(json.loads(value) if isinstance(value, str) else value or {})


async def named(kernel: Microkernel, ref: str) -> tuple[Session, Dispatch]:
    """The session and dispatch of an id, or of the beginning of one that no other has. Raises `DispatchNotFound`."""
    part = ref.removeprefix("d-")
    streams = kernel.log.streams("session/")
    exact = ids.stream_of(ids.session_of(ref))
    chosen = [exact] if exact in streams else [each for each in streams if each.startswith(f"session/s-{part}")]
    if not ref.startswith("d-") or not part or not chosen:
        raise DispatchNotFound(_unknown(ref, [each.replace("session/s-", "d-", 1) for each in streams]))
    if len(chosen) > MANY:
        raise DispatchNotFound(f"{ref!r} begins dispatch ids of {len(chosen)} sessions: write more of it.")
    sessions = [await kernel.session(each.removeprefix("session/")) for each in chosen]
    found = [(session, each) for session in sessions for name, each in session.dispatches.items() if name == ref]
    found = found or [
        (session, each) for session in sessions for name, each in session.dispatches.items() if name.startswith(ref)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DispatchNotFound(_unknown(ref, [name for session in sessions for name in session.dispatches]))
    some = ", ".join(each.id for _, each in found[:5])
    raise DispatchNotFound(f"{ref!r} begins {len(found)} dispatch ids ({some}): write more of it.")


def _unknown(ref: str, known: Sequence[str]) -> str:
    hint = closest(ref, known)
    return f"No dispatch {ref!r}{hint or ':'} `%runs` lists those there are."
