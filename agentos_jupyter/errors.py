"""Named conditions: each error carries the sentence and the cure.

    AgentOSError                     code          who can mend it
    ├── WorkspaceError               workspace.*   a person
    │   ├── WorkspaceBusy            workspace.busy
    │   ├── WorkspaceRefused         workspace.refused
    │   └── WorkspaceUntrusted       workspace.untrusted
    ├── ConfigError                  config.invalid
    ├── DaemonError                  daemon.*
    │   ├── DaemonUnavailable        daemon.unavailable
    │   └── VersionMismatch          daemon.version
    ├── LogError                     log.*
    │   ├── Conflict                 conflict      the caller: read again, retry
    │   ├── EventRefused             log.refused   the caller: put large bytes into a blob
    │   ├── LogDamaged               log.damaged
    │   ├── LogTooNew                log.too_new
    │   ├── LogUnwritable            log.unwritable
    │   └── ContentNotFound          content.not_found
    │       └── ContentForgotten     content.forgotten
    ├── BackupError                  backup.*
    │   ├── BackupDamaged            backup.damaged
    │   ├── BackupNotFound           backup.not_found
    │   └── BackupRefused            backup.refused
    ├── SqlRefused                   sql.refused
    ├── SessionError                 session.*
    │   ├── SessionBusy              session.busy
    │   └── SessionNotFound          session.not_found
    ├── DispatchNotFound             dispatch.not_found
    ├── DispatchEnded                dispatch.ended
    ├── AnswerInvalid                answer.invalid
    ├── AgentNotFound                agent.not_found
    ├── LeaseExpired                 lease.expired the unit: stop
    ├── ModelError                   model.*
    │   ├── ModelNotFound            model.not_found
    │   ├── ModelKeyMissing          model.key_missing
    │   ├── ModelUnavailable         model.unavailable
    │   ├── ModelRefused             model.refused
    │   ├── ModelMalformed           model.malformed
    │   ├── ModelReplayMiss          model.replay_miss
    │   └── ModelAsksPerson          model.asks_person  a person is the model: answer it
    ├── ContextTooLong               context.too_long
    ├── NoContextEngine              no_context_engine
    ├── BudgetExceeded               budget.exceeded
    ├── HookError                    hook.*
    │   ├── HookRejected             hook.rejected
    │   ├── HookFailed               hook.failed
    │   └── HookUnknown              hook.unknown
    ├── SkillNotFound                skill.not_found
    ├── SandboxUnavailable           sandbox.unavailable
    ├── BadArguments                 tool.bad_arguments  the model: it reads this as an observation
    ├── CommandError                 command.invalid
    ├── CommandFailed                command.failed    a person's own `%%bash` cell
    ├── RpcError                     rpc.*
    │   ├── UnknownSyscall           rpc.unknown_method
    │   ├── InvalidParams            rpc.invalid_params
    │   ├── BadFrame                 rpc.bad_frame
    │   ├── FrameTooLarge            rpc.too_large
    │   ├── ConnectionLost           rpc.connection_lost
    │   └── Cancelled                cancelled
    └── InternalError                internal      nobody: it is a defect, please report it

What a model can correct becomes an observation; what only a person can correct reaches the cell.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar


class AgentOSError(Exception):
    """A condition with a name (`code`), a sentence that says what to do, and `data` for programs."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class WorkspaceError(AgentOSError):
    code = "workspace.error"


class WorkspaceBusy(WorkspaceError):
    code = "workspace.busy"


class WorkspaceRefused(WorkspaceError):
    code = "workspace.refused"


class WorkspaceUntrusted(WorkspaceError):
    code = "workspace.untrusted"


class ConfigError(AgentOSError):
    code = "config.invalid"


class DaemonError(AgentOSError):
    code = "daemon.error"


class DaemonUnavailable(DaemonError):
    code = "daemon.unavailable"


class VersionMismatch(DaemonError):
    code = "daemon.version"


class LogError(AgentOSError):
    code = "log.error"


class Conflict(LogError):
    code = "conflict"


class EventRefused(LogError):
    """An event or blob that the log does not take: too large, too deep, not JSON."""

    code = "log.refused"


class LogDamaged(LogError):
    code = "log.damaged"


class LogTooNew(LogError):
    code = "log.too_new"


class LogUnwritable(LogError):
    code = "log.unwritable"


class ContentNotFound(LogError):
    code = "content.not_found"


class ContentForgotten(ContentNotFound):
    """A person had these bytes removed; when and why is in the sentence."""

    code = "content.forgotten"


class BackupError(AgentOSError):
    code = "backup.error"


class BackupDamaged(BackupError):
    code = "backup.damaged"


class BackupNotFound(BackupError):
    code = "backup.not_found"


class BackupRefused(BackupError):
    """A backup that cannot be made there: no room, no folder, or within reach of an agent."""

    code = "backup.refused"


class SqlRefused(AgentOSError):
    code = "sql.refused"


class SessionError(AgentOSError):
    code = "session.error"


class SessionBusy(SessionError):
    code = "session.busy"


class SessionNotFound(SessionError):
    code = "session.not_found"


class DispatchNotFound(AgentOSError):
    code = "dispatch.not_found"


class DispatchEnded(AgentOSError):
    """What was meant for a dispatch at work came too late."""

    code = "dispatch.ended"


class AnswerInvalid(AgentOSError):
    """The model's answers did not have the form that was asked for; the last one is in the history."""

    code = "answer.invalid"


class AgentNotFound(AgentOSError):
    code = "agent.not_found"


class LeaseExpired(AgentOSError):
    code = "lease.expired"


class ModelError(AgentOSError):
    code = "model.error"


class ModelNotFound(ModelError):
    code = "model.not_found"


class ModelKeyMissing(ModelError):
    code = "model.key_missing"


class ModelUnavailable(ModelError):
    """The endpoint cannot be reached, is overloaded, hangs or cuts off: worth a retry."""

    code = "model.unavailable"


class ModelRefused(ModelError):
    """The endpoint understood and said no (400, 401, 403, 404): a retry would not help."""

    code = "model.refused"


class ModelMalformed(ModelError):
    """The endpoint answered with something that is not a reply."""

    code = "model.malformed"


class ModelReplayMiss(ModelError):
    """A recording holds no reply to what was asked: a retry would not help."""

    code = "model.replay_miss"


class ModelAsksPerson(ModelError):
    """A person is the model, and has not said yet what comes next."""

    code = "model.asks_person"


class ContextTooLong(AgentOSError):
    code = "context.too_long"


class NoContextEngine(AgentOSError):
    code = "no_context_engine"


class BudgetExceeded(AgentOSError):
    code = "budget.exceeded"


class HookError(AgentOSError):
    code = "hook.error"


class HookRejected(HookError):
    code = "hook.rejected"


class HookFailed(HookError):
    code = "hook.failed"


class HookUnknown(HookError):
    code = "hook.unknown"


class SkillNotFound(AgentOSError):
    code = "skill.not_found"


class SandboxUnavailable(AgentOSError):
    code = "sandbox.unavailable"


class CommandError(AgentOSError):
    """A cell or terminal command that cannot be understood."""

    code = "command.invalid"


class BadArguments(AgentOSError):
    """A tool call's arguments that a model can correct."""

    code = "tool.bad_arguments"


class CommandFailed(AgentOSError):
    """A `%%bash` cell ended with another status than 0."""

    code = "command.failed"


class RpcError(AgentOSError):
    code = "rpc.error"


class UnknownSyscall(RpcError):
    code = "rpc.unknown_method"


class InvalidParams(RpcError):
    code = "rpc.invalid_params"


class BadFrame(RpcError):
    """A line that is not a JSON-RPC object: the channel cannot be trusted any more and is closed."""

    code = "rpc.bad_frame"


class FrameTooLarge(RpcError):
    code = "rpc.too_large"


class ConnectionLost(RpcError):
    code = "rpc.connection_lost"


class Cancelled(RpcError):
    code = "cancelled"


class InternalError(AgentOSError):
    code = "internal"


def _subclasses(cls: type[AgentOSError]) -> Iterable[type[AgentOSError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _subclasses(child)


BY_CODE: dict[str, type[AgentOSError]] = {cls.code: cls for cls in _subclasses(AgentOSError)}


def nearest(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name nobody knows: what was asked, the nearest name, all names."""
    names = sorted(known)
    listing = ", ".join(names) if names else "none"
    hint = closest(name, names)
    return (
        f"no {kind} named {name!r}{hint} Known: {listing}." if hint else f"no {kind} named {name!r}. Known: {listing}."
    )


def closest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, where something is near enough; else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
