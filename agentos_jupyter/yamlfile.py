"""YAML of unknown origin, read with bounds, and every value knows its line.

Bounds: size, aliases, depth; safe tags only; the last path component is never a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agentos_jupyter.errors import ConfigError

MAX_BYTES = 256_000
MAX_ALIASES = 100
MAX_DEPTH = 50

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same safe language; ten times as fast where PyYAML was built with libyaml."""

Location = Sequence[str | int]
"""Keys and list positions from the top of a document to one value."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says: `data` is plain Python, `node` the same with positions."""

    path: Path
    data: Any
    node: yaml.Node | None
    text: str

    def where(self, location: Location = (), *, key: bool = False) -> str:
        """`file:line:column` of the value at `location` (or of its key), of the deepest part that exists."""
        return _place(self.path, _find(self.node, location, key))

    def error(self, sentence: str, location: Location = (), *, key: bool = False) -> ConfigError:
        """A `ConfigError` that names file, line and column."""
        return ConfigError(f"{self.where(location, key=key)}: {sentence}", path=str(self.path))


def read(path: Path) -> Document:
    """Read and parse a YAML file. Raises `FileNotFoundError`, or `ConfigError` with file, line, column and cure."""
    text = _text(path)
    try:
        node = _compose(path, text)
        data = _construct(node) if node is not None else None
    except yaml.YAMLError as error:
        raise ConfigError(_sentence(path, error), path=str(path)) from None
    except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:  # PyYAML on a wrong !!tag
        raise ConfigError(
            f"{path}:1:1: a value cannot be read ({_first_line(error)}): put it in quotes.", path=str(path)
        ) from None
    return Document(path, data, node, text)


def _text(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        why = "is a symbolic link, which is not followed: put a real file there" if error.errno == errno.ELOOP else None
        raise ConfigError(
            f"{path}:1:1: the file {why or f'cannot be read ({error.strerror}): look at its permissions'}."
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path}:1:1: not a regular file: put a text file there.")
        raw = _at_most(descriptor, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}:1:1: longer than {MAX_BYTES // 1000} kB: make it shorter.")
    return _decode(path, raw)


def _at_most(descriptor: int, size: int) -> bytes:
    pieces: list[bytes] = []
    while size > 0 and (piece := os.read(descriptor, size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _decode(path: Path, raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise ConfigError(
            f"{path}:{line}:{column}: byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8."
        ) from None


def _compose(path: Path, text: str) -> yaml.Node | None:
    """The node tree, after the bounds were checked on the events alone: a bomb is never built."""
    depth = aliases = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        aliases += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH or aliases > MAX_ALIASES:
            what = f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"more than {MAX_ALIASES} aliases"
            raise ConfigError(f"{_place(path, event.start_mark)}: {what}: write it out more simply.")
    node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    _refuse_bombs(path, node)
    _refuse_duplicates(path, node, set())
    return node


def _construct(node: yaml.Node) -> Any:
    return yaml.SafeLoader("").construct_document(node)


def _refuse_bombs(path: Path, root: yaml.Node | None) -> None:
    """Aliases of aliases multiply: count what the document would be written out (each node once, by memo)."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, open_nodes: frozenset[int]) -> int:
        if id(node) in open_nodes:
            raise ConfigError(f"{_place(path, node.start_mark)}: an alias contains itself: write it out.")
        if id(node) not in sizes:
            inside = open_nodes | {id(node)}
            sizes[id(node)] = 1 + sum(size(child, inside) for child in children(node))
        return sizes[id(node)]

    if root is not None and size(root, frozenset()) > MAX_BYTES:
        raise ConfigError(
            f"{path}:1:1: its aliases multiply to more than {MAX_BYTES} values: write it out more simply."
        )


def _refuse_duplicates(path: Path, node: yaml.Node | None, seen: set[int]) -> None:
    """YAML's last key wins silently; a person who wrote a key twice wants to know."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        known: dict[str, int] = {}
        for key, _ in node.value:
            name, first = str(key.value), known.get(str(key.value))
            if first:
                twice = f"the key {name!r} stands twice (first in line {first}): remove one"
                raise ConfigError(f"{_place(path, key.start_mark)}: {twice}.")
            known[name] = key.start_mark.line + 1
    for child in children(node):
        _refuse_duplicates(path, child, seen)


def children(node: yaml.Node) -> list[yaml.Node]:
    """The nodes directly inside a node: keys and values, or items."""
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _find(node: yaml.Node | None, location: Location, key: bool) -> Any:
    mark = node.start_mark if node is not None else None
    for position, part in enumerate(location):
        name, child = _child(node, part)
        if child is None:
            return mark
        last = position == len(location) - 1
        mark = name.start_mark if name is not None and (key and last) else child.start_mark
        node = child
    return mark


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node | None, yaml.Node | None]:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(part)), (None, None))
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return None, node.value[part]
    return None, None


def _sentence(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or _first_line(error)
    if "nesting depth" in problem:  # newer builds of libyaml have a bound of their own
        return f"{_place(path, mark)}: nested deeper than {MAX_DEPTH}: write it out more simply."
    return f"{_place(path, mark)}: not valid YAML ({problem}): mend the line or the indentation above it."


def _place(path: Path, mark: Any) -> str:
    return f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else f"{path}:1:1"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
