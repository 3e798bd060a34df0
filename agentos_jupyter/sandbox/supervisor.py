"""The first process inside a sandbox: it starts a fresh bash for each command and leaves nothing behind.

Run by path, isolated, without the package: `python -I -S supervisor.py FD STATE_FOLDER CPU MEMORY PROCESSES
OPEN_FILES FILE_SIZE`. FD is one end of a SOCK_SEQPACKET pair, so each message is one frame:

    host → here   "R" number + [output, command] descriptors    run
                  "K" number                                    kill that command's whole tree
    here → host   "H" 0 0 0                                     ready
                  "X" number, wait status, flags                ended; every process of it is gone

End of file on FD ends the sandbox.
"""

from __future__ import annotations

import _socket
import array
import errno
import os
import resource
import select
import signal
import struct
import sys
from contextlib import suppress

REQUEST = struct.Struct("<cI")
REPLY = struct.Struct("<cIiB")
STATE_LOST, OVER_MEMORY, OVER_PROCESSES, STATE_GONE = 1, 2, 4, 8
TICK = 0.05
"""Seconds between two looks at the memory and the number of processes of a running command."""

COMPLETE = b"# complete\n"
LOUD = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD)
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36

# One line, so that the line numbers in bash's messages are the command's own. `builtin`, because the
# carried state may define functions of these names. Descriptor 9 holds the command's text.
RUN = (
    "[[ -r {state} ]] && builtin . {state} 2>/dev/null; builtin unset -v __agentos_saved; builtin ulimit -t {cpu}; "
    "IFS= builtin read -r -d '' -u 9 __agentos_command; exec 9<&-; "
    "builtin trap '{{ [[ ${{__agentos_saved-}} ]] || builtin . {save}; }} 2>/dev/null' EXIT; "
    'builtin eval "builtin unset -v __agentos_command;$__agentos_command"; {{ builtin . {save}; }} 2>/dev/null'
)
# Sourced at the end of the command and again by the EXIT trap, because the command may replace the trap
# or leave early.
SAVE = """\
__agentos_status=$?
builtin set +aeux
__agentos_saved=1
{
  builtin declare -px
  builtin declare -f
  builtin declare -xF
  builtin printf 'builtin cd -- %q || builtin echo "note: the folder %q is gone; this command runs in $PWD"\\n' \\
    "$PWD" "$PWD"
  builtin printf 'OLDPWD=%q\n' "${OLDPWD-}"
  builtin echo '# complete'
} >| NEXT
builtin return $__agentos_status
"""


class Shell:
    """Starts bash with the state the last command left."""

    def __init__(self, folder: str, cpu: int) -> None:
        self.folder = folder
        self.state = f"{folder}/state"
        self.next = f"{folder}/next"
        self.save = f"{folder}/save"
        self.argv = ["bash", "--noprofile", "--norc", "-c", RUN.format(state=self.state, save=self.save, cpu=cpu)]
        self.carried = False
        """Whether a command has left a state."""
        self.gone = False
        """Whether a later one removed it."""

    def start(self, output: int, command: int) -> int:
        self._write_save()
        self.gone = self.carried and not os.access(self.state, os.R_OK)
        self.carried = self.carried and not self.gone
        # With a state the environment comes from it alone, so that `unset NAME` is carried too.
        environ = {} if self.carried else dict(os.environ)
        try:
            return os.posix_spawn(
                "/bin/bash",
                self.argv,
                environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                    (os.POSIX_SPAWN_DUP2, command, 9),
                ],
                setsid=True,
                setsigdef=LOUD,
            )
        except NotImplementedError:  # a Python built against an old C library
            return self._fork(environ, output, command)

    def _fork(self, environ: dict[str, str], output: int, command: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            for number in LOUD:
                signal.signal(number, signal.SIG_DFL)
            null = os.open("/dev/null", os.O_RDONLY)
            for source, target in ((null, 0), (output, 1), (output, 2), (command, 9)):
                os.dup2(source, target)
            os.execve("/bin/bash", self.argv, environ)
        finally:
            os._exit(126)

    def _write_save(self) -> None:
        """The command may have removed or changed it."""
        text = SAVE.replace("NEXT", self.next).encode()
        with suppress(OSError):
            os.makedirs(self.folder, 0o700, exist_ok=True)
            descriptor = os.open(self.save, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                if os.read(descriptor, len(text) + 1) != text:
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, text, 0)
            finally:
                os.close(descriptor)

    def keep(self) -> bool:
        """Takes over the state the command wrote, if it came to writing all of it."""
        try:
            descriptor = os.open(self.next, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                size = os.fstat(descriptor).st_size
                whole = os.pread(descriptor, len(COMPLETE), max(0, size - len(COMPLETE))) == COMPLETE
            finally:
                os.close(descriptor)
            if whole:
                os.rename(self.next, self.state)
                self.carried = True
            else:
                os.unlink(self.next)
            return whole
        except OSError:
            return False


class Supervisor:
    """Serves one request after the other until the host closes its end."""

    def __init__(self, control: _socket.socket, shell: Shell, memory: int, processes: int) -> None:
        self.control = control
        self.shell = shell
        self.memory = memory
        self.processes = processes
        self.alone = os.getpid() == 1
        self.woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.poll = select.poll()
        self.poll.register(self.woken, select.POLLIN)
        self.poll.register(control, select.POLLIN)

    def serve(self) -> None:
        self.control.send(REPLY.pack(b"H", 0, 0, 0))
        while request := self._receive():
            kind, number, descriptors = request
            if kind == b"R" and len(descriptors) == 2:
                status, flags = self._run(number, *descriptors)
                self.control.send(REPLY.pack(b"X", number, status, flags))

    def _receive(self) -> tuple[bytes, int, list[int]] | None:
        room = _socket.CMSG_SPACE(8)
        message, extra, _, _ = self.control.recvmsg(REQUEST.size, room, _socket.MSG_CMSG_CLOEXEC)
        if len(message) != REQUEST.size:
            return None
        descriptors = array.array("i")
        for _, _, data in extra:
            descriptors.frombytes(data)
        kind, number = REQUEST.unpack(message)
        return kind, number, list(descriptors)

    def _run(self, number: int, output: int, command: int) -> tuple[int, int]:
        try:
            shell = self.shell.start(output, command)
        except OSError as error:
            os.write(output, f"bash could not be started: {error}\n".encode())
            return 126 << 8, STATE_LOST
        finally:
            os.close(output)
            os.close(command)
        status, flags = self._watch(shell, number)
        self._clear()
        flags |= STATE_GONE if self.shell.gone else 0
        return status, flags if self.shell.keep() else flags | STATE_LOST

    def _watch(self, shell: int, number: int) -> tuple[int, int]:
        """Waits for the shell; kills everything when told to, or when a limit is crossed."""
        flags = 0
        while True:
            ready = self.poll.poll(TICK * 1000)
            for descriptor, _ in ready:
                if descriptor == self.woken:
                    with suppress(BlockingIOError):
                        os.read(self.woken, 4096)
                    status = self._reap(shell)
                    if status is not None:
                        return status, flags
                else:
                    self._told(number)
            if not ready and (over := self._over()):
                flags |= over
                self._kill()

    def _told(self, number: int) -> None:
        request = self._receive()
        if request is None:
            self._kill()
            self._clear()
            os._exit(0)
        if request[:2] == (b"K", number):
            self._kill()

    def _reap(self, shell: int) -> int | None:
        found: int | None = None
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid == shell:
                    found = status
        return found

    def _clear(self) -> None:
        """Kills and reaps whatever the command left: orphans are children of this process."""
        with suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    self._kill()
                    os.waitpid(-1, 0)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            if self.alone:
                os.kill(-1, signal.SIGKILL)  # all but this one, at one stroke, whatever they fork
                return
            for pid in descendants(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _over(self) -> int:
        pids = [p for p in numbers("/proc") if p != 1] if self.alone else descendants(os.getpid())
        if len(pids) > self.processes:
            return OVER_PROCESSES
        if sum(map(resident, pids)) > self.memory and sum(map(proportional, pids)) > self.memory:
            return OVER_MEMORY
        return 0


def numbers(folder: str) -> list[int]:
    return [int(name) for name in os.listdir(folder) if name.isdigit()]


def descendants(ancestor: int) -> list[int]:
    """Every process below `ancestor`, found through the parent of each process."""
    children: dict[int, list[int]] = {}
    for pid in numbers("/proc"):
        with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            parent = int(file.read(512).rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
    found, waiting = [], [ancestor]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def resident(pid: int) -> int:
    """Bytes of this process that are in memory; pages shared after a fork count in each."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, pages, shared = file.read(128).split()[:3]
        return (int(pages) - int(shared)) * resource.getpagesize()
    except (OSError, ValueError):
        return 0


def proportional(pid: int) -> int:
    """The same with shared pages divided among their users: exact, and dear."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss_Anon:"):
                    return int(line.split()[1]) * 1024
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return 0
    return resident(pid)


def harden() -> None:
    """No command may look into this process; its orphans come to it."""
    import _ctypes  # the whole of ctypes costs 3 ms and 1 MB

    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type]
    if _ctypes.call_function(prctl, (PR_SET_DUMPABLE, 0, 0, 0, 0)):
        raise SystemExit("prctl(PR_SET_DUMPABLE) failed")
    if os.getpid() != 1 and _ctypes.call_function(prctl, (PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)):
        raise SystemExit("prctl(PR_SET_CHILD_SUBREAPER) failed")


def bound(memory: int, processes: int, open_files: int, file_size: int) -> None:
    """Limits of each process, inherited by every command."""
    for kind, wanted in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, open_files),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_DATA, memory),
    ):
        _lower(kind, wanted)
    # Before Linux 5.14 this counts the user's processes everywhere, not only those in here.
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2] if part.isdigit())
    if os.getpid() == 1 and release >= (5, 14):
        _lower(resource.RLIMIT_NPROC, processes)


def _lower(kind: int, wanted: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (value, value))


def main(argv: list[str]) -> None:
    folder = argv[2]
    control_fd, cpu, memory, processes, open_files, file_size = (int(value) for value in (argv[1], *argv[3:8]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    harden()
    bound(memory, processes, open_files, file_size)
    control = _socket.socket(fileno=control_fd)
    os.set_inheritable(control_fd, False)
    Supervisor(control, Shell(folder, cpu), memory, processes).serve()


if __name__ == "__main__":
    main(sys.argv)
