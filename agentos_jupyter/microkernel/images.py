"""Images of a prompt: stored as content, named in the context, filled into a request when it is sent."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentos_jupyter.errors import BudgetExceeded, ContentForgotten, InvalidParams

if TYPE_CHECKING:
    from agentos_jupyter.log import Log
    from agentos_jupyter.microkernel.kernel import Microkernel
    from agentos_jupyter.microkernel.shapes import ImageInfo

KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp")
_PART = re.compile(rb'\{"type":"image_url","image_url":\{"url":"blob:([\w/+.-]+);([\w:]+)"\}\}')
"""Where an image belongs in an encoded message; text cannot look so, because its quotes are escaped."""

_FORGOTTEN = b'{"type":"text","text":"[An image that was attached here has been forgotten.]"}'


def place(mime: str, digest: str) -> str:
    """The URL that stands for an image until the message is sent."""
    return f"blob:{mime};{digest}"


def check(kernel: Microkernel, images: Sequence[ImageInfo]) -> None:
    """Raise unless each image is stored, of a kind that models read, and within the limits."""
    limits = kernel.limits()
    if len(images) > limits.images:
        raise BudgetExceeded(
            f"{len(images)} images are attached and limits.images allows {limits.images}: attach fewer."
        )
    for image in images:
        if image.mime not in KINDS:
            raise InvalidParams(f"{image.name} is {image.mime}: models read {', '.join(KINDS)}.")
        size = kernel.log.blobs.size(image.digest)
        if size > limits.image:
            raise BudgetExceeded(
                f"{image.name} is {size} bytes long and limits.image allows {limits.image}: make it smaller."
            )


async def filled(log: Log, messages: list[bytes]) -> list[bytes]:
    """The messages with the images they name, as data URLs; the others are left as they are."""
    return [await _filled(log, piece) if b'"url":"blob:' in piece else piece for piece in messages]


async def _filled(log: Log, piece: bytes) -> bytes:
    parts: list[bytes] = []
    end = 0
    for found in _PART.finditer(piece):
        parts += [piece[end : found.start()], await _part(log, found[1], found[2].decode())]
        end = found.end()
    return b"".join([*parts, piece[end:]])


async def _part(log: Log, mime: bytes, digest: str) -> bytes:
    """The image; where a person had it forgotten, words in its place, so that the session can go on."""
    try:
        data = base64.b64encode(await log.content(digest))
    except ContentForgotten:
        return _FORGOTTEN
    return b'{"type":"image_url","image_url":{"url":"data:' + mime + b";base64," + data + b'"}}'
