"""content: bytes too large for an event, addressed by their digest."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from pydantic import Field

from agentos_jupyter.errors import InvalidParams
from agentos_jupyter.log import forgetting
from agentos_jupyter.microkernel.sessions import Caller
from agentos_jupyter.microkernel.table import Shape, namespace

if TYPE_CHECKING:
    from agentos_jupyter.microkernel.kernel import Microkernel

CHUNK = 2 * 1024 * 1024


class Put(Shape):
    """One chunk (at most 2 MiB) of an upload; `last` ends it."""

    upload: str = Field(min_length=8, max_length=100)
    offset: int = Field(0, ge=0)
    base64: str = Field(max_length=CHUNK * 4 // 3 + 4)
    last: bool = False


class Uploaded(Shape):
    """The content's digest once the upload has ended, else null."""

    digest: str | None


class Read(Shape):
    digest: str
    offset: int = Field(0, ge=0)
    length: int = Field(CHUNK, ge=0, le=CHUNK)


class Bytes(Shape):
    """A part of the content; `total` is its whole size in bytes."""

    base64: str
    total: int


class Forget(Shape):
    """Which content, and why: the reason stays in the log."""

    digest: str
    reason: str = Field("", max_length=1000)


class Forgotten(Shape):
    """The tombstone: when (UTC), how many bytes went, and why; `now` is false where it was forgotten before."""

    digest: str
    time: str
    bytes: int
    reason: str
    now: bool


async def forget(kernel: Microkernel, caller: Caller, params: Forget) -> Forgotten:
    """Remove content for good, and leave a tombstone that says when, who and why; no event is touched. The owner's alone.

    Raises `content.not_found`. Backups that were made before still hold it.
    """
    if caller.identity != "owner":
        raise InvalidParams("content.forget is the owner's alone.")
    reason = kernel.redactor.text(params.reason)
    event, now = await forgetting.forget(kernel.log, params.digest, reason, caller.name or caller.identity)
    said = {name: event.data[name] for name in ("digest", "bytes", "reason")}
    return Forgotten(time=event.time.isoformat(), now=now, **said)


async def put(kernel: Microkernel, caller: Caller, params: Put) -> Uploaded:
    """Store bytes, chunk by chunk and in order; what is stored, without secrets, is on disk when the digest is returned."""
    try:
        chunk = base64.b64decode(params.base64, validate=True)
    except binascii.Error as error:
        raise InvalidParams(f"content.put: base64 is not valid ({error}).") from None
    limit, clean = kernel.limits().content, kernel.redactor.file
    digest = await kernel.log.blobs.upload(params.upload, params.offset, chunk, params.last, limit=limit, clean=clean)
    return Uploaded(digest=digest)


async def read(kernel: Microkernel, caller: Caller, params: Read) -> Bytes:
    """Bytes by their digest. Raises `content.not_found`, or `content.forgotten` with when and why."""
    part = await kernel.log.content(params.digest, params.offset, params.length)
    return Bytes(base64=base64.b64encode(part).decode(), total=kernel.log.blobs.size(params.digest))


CALLS = namespace("content", writes=(put, forget), reads=(read,))
