"""The event log: an append-only history in DuckDB, and content-addressed blobs beside it."""

from agentos_jupyter.log.blobs import Blobs
from agentos_jupyter.log.log import Log
from agentos_jupyter.log.opening import Storage
from agentos_jupyter.log.query import QueryResult
from agentos_jupyter.log.writer import Expected

__all__ = ["Blobs", "Expected", "Log", "QueryResult", "Storage"]
