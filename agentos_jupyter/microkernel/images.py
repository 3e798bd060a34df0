"""Images of a prompt: stored as content, named in the context, filled into a request when it is sent."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentos_jupyter.errors import BudgetExceeded, InvalidParams

if TYPE_CHECKING:
    from agentos_jupyter.log import Log
    from agentos_jupyter.microkernel.kernel import Microkernel
    from agentos_jupyter.microkernel.shapes import ImageInfo

KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp")
_PLACE = re.compile(rb'"url":"blob:([\w/+.-]+);([\w:]+)"')
"""Where an image belongs in an encoded message; text cannot look so, because its quotes are escaped."""


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
    for found in _PLACE.finditer(piece):
        data = await log.blobs.get(found[2].decode())
        parts += [piece[end : found.start()], b'"url":"data:', found[1], b";base64,", base64.b64encode(data), b'"']
        end = found.end()
    return b"".join([*parts, piece[end:]])
