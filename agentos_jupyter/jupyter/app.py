"""The process of a notebook kernel: ipykernel's application with our kernel, without what it does not need."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the kernel until it is shut down."""
    _leave_out_the_debugger()
    from ipykernel.kernelapp import IPKernelApp

    from agentos_jupyter.jupyter.kernel import AgentOSKernel

    IPKernelApp.launch_instance(kernel_class=AgentOSKernel)


def _leave_out_the_debugger() -> None:
    """ipykernel imports debugpy whenever it is installed: a third of its start, for cells that have no lines to stop at.

    A `%%python` cell can still import it.
    """
    sys.modules["debugpy"] = None  # type: ignore[assignment]
    try:
        import ipykernel.debugger  # noqa: F401
    finally:
        del sys.modules["debugpy"]
