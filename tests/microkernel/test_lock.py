"""Who may own a workspace: one process of one machine, on a file system whose locks hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentos_jupyter.errors import WorkspaceBusy
from agentos_jupyter.microkernel.lock import NETWORK, Lock, file_system

MOUNTS = """\
22 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw
36 22 0:31 / /home rw,relatime shared:18 - nfs4 server:/home rw,vers=4.2
37 36 0:32 / /home/me/my\\040disk rw,relatime shared:19 - xfs /dev/sdb1 rw
38 22 0:33 / /mnt/laptop rw,nosuid,nodev shared:20 - fuse.sshfs me@host:/ rw,user_id=1000
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/srv/project", "ext4", False),
        ("/home/me/project", "nfs4", True),
        ("/home/me/my disk/project", "xfs", False),
        ("/homework/project", "ext4", False),
        ("/mnt/laptop/project", "fuse.sshfs", True),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_its_nearest_mount(path: str, kind: str, network: bool) -> None:
    assert file_system(path, MOUNTS) == kind
    assert (kind in NETWORK) is network


def test_this_machines_own_folders_are_told(tmp_path: Path) -> None:
    assert file_system(str(tmp_path), Path("/proc/self/mountinfo").read_text()) not in ("", *NETWORK)


def _left(workspace: Path, **owner: str | int) -> None:
    with Lock(workspace):
        pass
    (workspace / ".agentos" / "lock").write_text(json.dumps(owner))


def test_a_lock_that_another_machine_did_not_let_go_of_is_never_taken_over(workspace: Path) -> None:
    _left(workspace, pid=7, host="elsewhere", boot="another-boot")
    with pytest.raises(WorkspaceBusy, match=r"on the machine elsewhere: work there.*delete .*lock"), Lock(workspace):
        pass
    (workspace / ".agentos" / "lock").unlink()
    with Lock(workspace):
        pass


def test_a_container_of_this_machine_that_was_killed_keeps_nobody_out(workspace: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    _left(workspace, pid=7, host="a-container", boot=boot)
    with Lock(workspace):
        pass


def test_a_lock_that_was_let_go_of_names_nobody(workspace: Path) -> None:
    with Lock(workspace):
        assert "pid" in json.loads((workspace / ".agentos" / "lock").read_text())
    assert json.loads((workspace / ".agentos" / "lock").read_text()) == {}
