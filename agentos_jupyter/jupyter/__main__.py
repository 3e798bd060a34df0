"""`python -m agentos_jupyter.jupyter -f {connection_file}`: the notebook kernel."""

from agentos_jupyter.jupyter.app import main

main()
