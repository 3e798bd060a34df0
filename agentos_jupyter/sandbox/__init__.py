"""Where an agent's commands run: bash, its root, and nothing else.

`await probe()` names the tier of this machine, `Sandbox` is one warm sandbox, `listing` and `diff` say
which files were changed. The files, from the outside in:

    probe.py     attacks a sandbox with canaries (canary.py) before it is called one
    box.py       Sandbox: one command after the other, restarts, notes for the model
    protect.py   protected paths, their placeholders, the mount check
    mounts.py    what exists inside; launch.py starts it; seccomp.py closes two more doors
    channel.py   the frames to the supervisor; capture.py a command's output; scratch.py its overflow
    supervisor.py  the first process inside (stdlib only, knows nothing of this package)
"""

from __future__ import annotations

from agentos_jupyter.sandbox.box import Sandbox
from agentos_jupyter.sandbox.listing import Changes, Listing, diff, listing
from agentos_jupyter.sandbox.probe import probe
from agentos_jupyter.sandbox.shapes import Limits, Outcome, Tier

__all__ = ["Changes", "Limits", "Listing", "Outcome", "Sandbox", "Tier", "diff", "listing", "probe"]
