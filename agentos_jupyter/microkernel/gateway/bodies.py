"""The messages of a call, handed from daemon to gateway as memory: no escaping, no frames, no limit but the memory itself."""

from __future__ import annotations

import os
import socket


def hand_over(side: socket.socket, number: int, body: bytes) -> None:
    """Give the other side `body` as the call with this number. Raises `OSError` when it takes nothing."""
    memory = os.memfd_create("agentos-messages", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(body)
        os.lseek(memory, 0, os.SEEK_SET)  # the other side reads from the beginning
        socket.send_fds(side, [number.to_bytes(8, "big")], [memory])
    finally:
        os.close(memory)


class Bodies:
    """What was handed over, by number. It is there before the call that names it."""

    def __init__(self, side: socket.socket) -> None:
        self._side = side
        self._side.setblocking(False)
        self._waiting: dict[int, int] = {}

    def take(self, number: int) -> bytes:
        """The body of a call; those of calls before it that never came are dropped. Raises `KeyError`."""
        while number not in self._waiting and self._receive():
            pass
        memory = self._waiting.pop(number)
        with open(memory, "rb") as file:
            body = file.read()
        for old in [old for old in self._waiting if old < number]:
            os.close(self._waiting.pop(old))
        return body

    def _receive(self) -> bool:
        try:
            data, memories, _, _ = socket.recv_fds(self._side, 8, 1)
        except BlockingIOError:
            return False
        if not data or not memories:
            return False
        self._waiting[int.from_bytes(data, "big")] = memories[0]
        return True
