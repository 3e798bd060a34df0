"""A small system call filter for the two doors that no namespace closes: foreign sockets and keyrings.

AF_VSOCK reaches the hypervisor and some netlink families reach the kernel whatever the network
namespace; keyrings belong to the user, and io_uring opens sockets past any filter. Everything else is
left to the namespaces.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

_LOAD, _EQUAL, _ABOVE, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCH, _FAMILY, _PROTOCOL = 0, 4, 16, 32
"""Offsets in `struct seccomp_data`; the arguments' lower halves on a little-endian machine."""
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X32 = 0x40000000

_MACHINES = {
    # machine: (audit architecture, socket, keyrings: add_key request_key keyctl)
    "x86_64": (0xC000003E, 41, (248, 249, 250)),
    "aarch64": (0xC00000B7, 198, (217, 218, 219)),
}
_IO_URING_SETUP = 425


def program() -> bytes | None:
    """The filter as classic BPF for `bwrap --seccomp`, or None on a machine it is not written for."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return None
    arch, socket_call, keyrings = machine
    refused = (_IO_URING_SETUP, *keyrings)
    plain = (int(socket.AF_UNIX), int(socket.AF_INET), int(socket.AF_INET6))
    lines: list[tuple[int, int, str | None, str | None]] = [
        (_LOAD, _ARCH, None, None),
        (_EQUAL, arch, None, "refuse"),
        (_LOAD, _NUMBER, None, None),
        (_ABOVE, _X32, "refuse", None),
        *((_EQUAL, number, "refuse", None) for number in refused),
        (_EQUAL, socket_call, None, "allow"),
        (_LOAD, _FAMILY, None, None),
        *((_EQUAL, family, "allow", None) for family in plain),
        (_EQUAL, int(socket.AF_NETLINK), None, "family"),
        (_LOAD, _PROTOCOL, None, None),
        (_EQUAL, 0, "allow", "family"),
    ]
    ends = {
        "allow": _ALLOW,
        "refuse": _ERRNO | errno.ENOSYS,
        "family": _ERRNO | errno.EAFNOSUPPORT,
    }
    places = {name: len(lines) + at for at, name in enumerate(ends)}
    code = b""
    for at, (operation, value, yes, no) in enumerate(lines):
        jumps = (places[name] - at - 1 if name else 0 for name in (yes, no))
        code += struct.pack("HBBI", operation, *jumps, value)
    return code + b"".join(struct.pack("HBBI", _RETURN, 0, 0, value) for value in ends.values())
