"""`python -m agentos_jupyter.cli` is `agentos`."""

from __future__ import annotations

import sys

from agentos_jupyter.cli.main import main

sys.exit(main())
