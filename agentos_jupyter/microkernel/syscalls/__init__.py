"""Every operation of the microkernel, by namespace."""

from __future__ import annotations

from agentos_jupyter.microkernel.syscalls import (
    agent,
    compute,
    content,
    context,
    dispatch,
    event,
    hook,
    model,
    session,
    skill,
    sql,
    storage,
    system,
    tool,
)
from agentos_jupyter.microkernel.table import Syscall

TABLE: dict[str, Syscall] = {
    name: row
    for module in (
        system,
        storage,
        event,
        sql,
        agent,
        session,
        dispatch,
        compute,
        tool,
        context,
        content,
        skill,
        hook,
        model,
    )
    for name, row in module.CALLS.items()
}
