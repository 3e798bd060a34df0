"""Views for people: one SELECT over `events` each. Times are UTC; `session` is the id, without `session/`."""

from __future__ import annotations

_SESSION = "substr(stream, 9)"
_IN_SESSIONS = "starts_with(stream, 'session/')"

SESSIONS = f"""
select {_SESSION} as session,
       arg_max(data->>'$.name', position) filter (type in ('session.created', 'session.updated')) as name,
       min(time) as created,
       max(time) as last,
       max(data->>'$.root') filter (type = 'session.created') as root,
       max(data->>'$.notebook') filter (type = 'session.created') as notebook,
       coalesce(arg_max(data->>'$.model', position) filter (type = 'assistant.message'),
                max(data->>'$.model') filter (type = 'session.created')) as model,
       count(*) filter (type = 'dispatch.started' and data->>'$.resumed' is distinct from 'true') as dispatches,
       count(*) filter (type = 'assistant.message') as turns,
       count(*) filter (type = 'tool.call') as calls,
       coalesce(sum(try_cast(data->>'$.usage.input' as bigint)) filter (type = 'assistant.message'), 0)
         + coalesce(sum(try_cast(data->>'$.usage.output' as bigint)) filter (type = 'assistant.message'), 0) as tokens,
       sum(try_cast(data->>'$.usage.usd' as double)) filter (type = 'assistant.message') as usd,
       case arg_max(type, position) filter (type in ('dispatch.started', 'dispatch.ended'))
         when 'dispatch.started' then 'dispatched'
         when 'dispatch.ended' then
           case arg_max(data->>'$.status', position) filter (type = 'dispatch.ended')
             when 'interrupted' then 'interrupted' else 'idle' end
         else 'idle' end as phase,
       arg_max(dispatch, position) filter (type = 'dispatch.started') as dispatch,
       count(*) as events
from events where {_IN_SESSIONS} group by stream
"""

HISTORY = f"""
select {_SESSION} as session, version as seq, time, type, actor, dispatch,
       case type
         when 'user.message' then coalesce(data->>'$.text', data->>'$.ref')
         when 'assistant.message' then data->>'$.text'
         when 'tool.call' then coalesce(data->>'$.arguments.command', data->>'$.arguments')
         when 'tool.result' then data->>'$.text'
         when 'tool.result.late' then data->>'$.text'
         when 'dispatch.started' then coalesce(data->>'$.prompt', data->>'$.prompt_ref')
         when 'dispatch.ended' then coalesce(data->>'$.error.message', data->>'$.answer')
         when 'compute.attempt' then data->>'$.error'
         when 'session.created' then data->>'$.name'
         when 'session.interrupted' then data->>'$.during'
       end as text,
       coalesce(data->>'$.status', data->>'$.verdict', data->>'$.finish') as status,
       coalesce(data->>'$.name', data->>'$.model') as name,
       position, data
from events where {_IN_SESSIONS}
"""

TOOL_CALLS = f"""
with asked as (
  select * from events where {_IN_SESSIONS} and type = 'tool.call'
), result as (
  select stream, data->>'$.id' as id,
         coalesce(arg_min(data, position) filter (type = 'tool.result'), arg_min(data, position)) as data,
         bool_or(type = 'tool.result.late') as late,
         min(time) as time
  from events where {_IN_SESSIONS} and type in ('tool.result', 'tool.result.late') group by 1, 2
)
select {_SESSION.replace("stream", "asked.stream")} as session, asked.dispatch, asked.data->>'$.id' as call, asked.time,
       try_cast(asked.data->>'$.turn' as bigint) as turn,
       asked.data->>'$.name' as name,
       coalesce(asked.data->>'$.arguments.command', asked.data->>'$.arguments') as arguments,
       asked.data->>'$.verdict' as verdict,
       asked.data->>'$.reason' as reason,
       result.data->>'$.status' as status,
       try_cast(result.data->>'$.exit_code' as bigint) as exit_code,
       try_cast(result.data->>'$.seconds' as double) as seconds,
       try_cast(result.data->>'$.total' as bigint) as bytes,
       result.data->>'$.text' as output,
       coalesce(result.late, false) as late,
       asked.actor, asked.position
from asked left join result on result.stream = asked.stream and result.id = asked.data->>'$.id'
"""

DISPATCHES = f"""
select {_SESSION} as session, dispatch,
       min(time) filter (type = 'dispatch.started') as started,
       max(time) filter (type = 'dispatch.ended') as ended,
       coalesce(arg_max(data->>'$.status', position) filter (type = 'dispatch.ended'), 'running') as status,
       arg_min(data->>'$.kind', position) filter (type = 'dispatch.started') as kind,
       coalesce(arg_min(data->>'$.prompt', position) filter (type = 'dispatch.started'),
                arg_min(data->>'$.text', position) filter (type = 'user.message'),
                arg_min(data->>'$.prompt_ref', position) filter (type = 'dispatch.started')) as prompt,
       arg_max(data->>'$.answer', position) filter (type = 'dispatch.ended') as answer,
       count(*) filter (type = 'assistant.message') as turns,
       count(*) filter (type = 'tool.call') as calls,
       arg_max(try_cast(data->>'$.seconds' as double), position) filter (type = 'dispatch.ended') as seconds,
       coalesce(sum(try_cast(data->>'$.usage.input' as bigint)) filter (type = 'assistant.message'), 0)
         + coalesce(sum(try_cast(data->>'$.usage.output' as bigint)) filter (type = 'assistant.message'), 0) as tokens,
       sum(try_cast(data->>'$.usage.usd' as double)) filter (type = 'assistant.message') as usd,
       arg_max(data->>'$.model', position) filter (type = 'assistant.message') as model,
       coalesce(bool_or(data->>'$.scripted' = 'true') filter (type = 'assistant.message'), false) as scripted,
       arg_max(data->>'$.error.message', position) filter (type = 'dispatch.ended') as error,
       arg_min(data->>'$.agent', position) filter (type = 'dispatch.started') as agent
from events where {_IN_SESSIONS} and dispatch is not null group by stream, dispatch
having count(*) filter (type = 'dispatch.started') > 0
"""

COSTS = f"""
select {_SESSION} as session, dispatch, time, try_cast(data->>'$.turn' as bigint) as turn,
       data->>'$.model' as model,
       coalesce(data->>'$.scripted' = 'true', false) as scripted,
       try_cast(data->>'$.usage.input' as bigint) as input,
       try_cast(data->>'$.usage.output' as bigint) as output,
       try_cast(data->>'$.usage.cached' as bigint) as cached,
       try_cast(data->>'$.usage.usd' as double) as usd,
       try_cast(data->>'$.seconds' as double) as seconds,
       position
from events where {_IN_SESSIONS} and type = 'assistant.message'
"""

VIEWS: dict[str, str] = {
    "sessions": SESSIONS,
    "history": HISTORY,
    "tool_calls": TOOL_CALLS,
    "dispatches": DISPATCHES,
    "costs": COSTS,
}
