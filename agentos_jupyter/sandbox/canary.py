"""What the probe runs inside a new sandbox: it tries to get out and prints each attack that succeeded.

Run by path, isolated, without the package: `python -I -S canary.py SECRET_FILE HOST_PID TCP UDP ABSTRACT
ROOT NAMES`; NAMES are the variables it may find. Its last line is `done`, so that silence is no success.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable


def reads_a_file_outside(secret: str) -> bool:
    with open(secret, "rb") as file:
        return bool(file.read(1))


def reads_the_callers_environment(pid: str) -> bool:
    """Through its number out there, the parent's in here, or any process that is not this one's own."""
    for other in {pid, str(os.getppid()), *filter(str.isdigit, os.listdir("/proc"))} - {"0", str(os.getpid()), "self"}:
        try:
            with open(f"/proc/{other}/environ", "rb") as file:
                if file.read(1):
                    return True
        except OSError:
            continue
    return False


def inherits_the_callers_environment(expected: str) -> bool:
    return not set(os.environ) <= set(expected.split(","))


def connects_tcp(port: str) -> bool:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=0.05):
        return True


def sends_udp(port: str) -> bool:
    """Whether it arrives is seen from the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"canary", ("127.0.0.1", int(port)))
        return False


def connects_abstract(name: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + name)
        return True


def opens_vsock(_: str) -> bool:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM):
        return True


def writes_into_the_system(secret: str) -> bool:
    """Into the system, and into what was made for us; whether the file beside the secret is real is seen
    from the host."""
    for path in (f"{secret}-written", *(f"{folder}/agentos-canary" for folder in ("/usr", "/etc", "", "/dev"))):
        try:
            with open(path, "x"):
                if not path.startswith(secret):
                    os.unlink(path)
                    return True
        except OSError:
            continue
    return False


def changes_the_machine(_: str) -> bool:
    with open("/proc/sys/kernel/core_pattern", "r+b"):
        return True


def makes_a_user_namespace(_: str) -> bool:
    unshare = getattr(os, "unshare", None)  # Python 3.12
    if unshare is None:
        return False
    unshare(0x10000000)
    return True


def cannot_write_the_root(root: str) -> bool:
    """Not an escape, but a sandbox in which nothing can be done is none either."""
    path = f"{root}/canary"
    try:
        with open(path, "w"):
            os.unlink(path)
            return False
    except OSError:
        return True


def leave_a_survivor() -> None:
    """A grandchild in a session of its own, which holds the pipe to the host open for some seconds."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for other in (0, 1, 2):
                os.close(other)
            time.sleep(5)
        os._exit(0)
    os.wait()


def main(argv: list[str]) -> None:
    secret, pid, tcp, udp, abstract, root, expected = argv[1:8]
    attacks: list[tuple[Callable[[str], bool], str]] = [
        (reads_a_file_outside, secret),
        (reads_the_callers_environment, pid),
        (inherits_the_callers_environment, expected),
        (connects_tcp, tcp),
        (sends_udp, udp),
        (connects_abstract, abstract),
        (opens_vsock, "-"),
        (writes_into_the_system, secret),
        (changes_the_machine, "-"),
        (makes_a_user_namespace, "-"),
        (cannot_write_the_root, root),
    ]
    for attack, target in attacks:
        try:
            escaped = attack(target)
        except (OSError, ValueError, AttributeError):
            escaped = False
        if escaped:
            print(attack.__name__.replace("_", " "))
    leave_a_survivor()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv)
