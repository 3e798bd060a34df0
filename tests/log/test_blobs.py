"""Blobs: content decides the name, they are whole or absent, and no name leaves the folder."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import pytest

from agentos_jupyter.errors import ContentNotFound, EventRefused
from agentos_jupyter.log import Log
from agentos_jupyter.log.blobs import MAX_CHUNK, MAX_UPLOADS


def name(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def test_what_is_put_is_read_back_by_its_digest(log: Log, folder: Path) -> None:
    for data in (b"", b"hello", os.urandom(3_000_000)):
        digest = await log.blobs.put(data)
        assert digest == name(data) == await log.blobs.put(data)
        assert log.blobs.has(digest) and log.blobs.size(digest) == len(data)
        assert await log.blobs.get(digest) == data
        assert await log.blobs.get(digest, 2, 3) == data[2:5]
        assert await log.blobs.get(digest, len(data) + 5) == b""
        assert log.blobs.path(digest) == folder / "blobs" / digest[7:9] / digest[7:]
    assert len([path for path in (folder / "blobs").rglob("*") if path.is_file()]) == 3


@pytest.mark.parametrize(
    "digest",
    ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "A" * 64, "sha256:../../../etc/passwd", "md5:" + "0" * 32,
     "sha256:" + "0" * 64 + "\n", "sha256:" + "0" * 64 + "/..", "/etc/passwd", "sha256:" + "0" * 64, "sha256:" + "٠" * 64],
)  # fmt: skip
async def test_what_is_not_there_or_no_digest_is_not_found(log: Log, digest: str) -> None:
    with pytest.raises(ContentNotFound):
        await log.blobs.get(digest)
    with pytest.raises(ContentNotFound):
        log.blobs.size(digest)


async def test_a_negative_range_is_refused(log: Log) -> None:
    digest = await log.blobs.put(b"hello")
    for offset, length in ((-1, None), (0, -1)):
        with pytest.raises(EventRefused):
            await log.blobs.get(digest, offset, length)


async def test_an_upload_is_joined_from_its_chunks(log: Log, folder: Path) -> None:
    data = os.urandom(2 * MAX_CHUNK + 10)
    upload = log.blobs.upload
    assert await upload("u", 0, data[:MAX_CHUNK], False, limit=1 << 24) is None
    assert not log.blobs.has(name(data))
    second = data[MAX_CHUNK : 2 * MAX_CHUNK]
    assert await upload("u", MAX_CHUNK, second, False, limit=1 << 24) is None
    assert await upload("u", MAX_CHUNK, second, False, limit=1 << 24) is None, "a repeat is no second chunk"
    last = data[2 * MAX_CHUNK :]
    assert await upload("u", 2 * MAX_CHUNK, last, True, limit=1 << 24) == name(data)
    assert await upload("u", 2 * MAX_CHUNK, last, True, limit=1 << 24) == name(data)
    assert await log.blobs.get(name(data)) == data
    assert await upload("one", 0, b"x", True, limit=1) == name(b"x")
    assert await upload("one", 0, b"x", True, limit=1) == name(b"x")
    assert list((folder / "blobs").glob("upload-*")) == []


async def test_a_wrong_chunk_ends_the_upload_with_a_sentence(log: Log, folder: Path) -> None:
    upload = log.blobs.upload
    with pytest.raises(EventRefused, match="not known here"):
        await upload("u", 5, b"x", False, limit=100)
    await upload("u", 0, b"12345", False, limit=100)
    with pytest.raises(EventRefused, match="goes on at 5, not at 7"):
        await upload("u", 7, b"x", False, limit=100)
    with pytest.raises(EventRefused, match="at most"):
        await upload("v", 0, bytes(MAX_CHUNK + 1), False, limit=1 << 30)
    await upload("w", 0, bytes(60), False, limit=100)
    with pytest.raises(EventRefused, match="at most 100 bytes"):
        await upload("w", 60, bytes(60), True, limit=100)
    assert list((folder / "blobs").glob("upload-*")) == []


async def test_beginning_again_replaces_and_old_uploads_give_way(log: Log, folder: Path) -> None:
    upload = log.blobs.upload
    await upload("u", 0, b"old", False, limit=100)
    await upload("u", 0, b"new", False, limit=100)
    assert await upload("u", 3, b"!", True, limit=100) == name(b"new!")
    for number in range(MAX_UPLOADS + 5):
        await upload(f"many-{number}", 0, b"x", False, limit=100)
    assert len(list((folder / "blobs").glob("upload-*"))) == MAX_UPLOADS
    with pytest.raises(EventRefused, match="start again"):
        await upload("many-0", 1, b"x", True, limit=100)
    await log.aclose()
    assert list((folder / "blobs").glob("upload-*")) == []


async def test_uploads_at_once_do_not_mix_and_leftovers_are_swept(log: Log, folder: Path) -> None:
    async def one(number: int) -> str | None:
        for offset in range(5):
            await log.blobs.upload(f"u{number}", offset, bytes([number]), False, limit=100)
        return await log.blobs.upload(f"u{number}", 5, b"", True, limit=100)

    assert await asyncio.gather(*map(one, range(20))) == [name(bytes([number]) * 5) for number in range(20)]
    await log.aclose()
    (folder / "blobs" / "upload-0123").write_bytes(b"left by a crash")
    async with await Log.open(folder):
        assert list((folder / "blobs").glob("upload-*")) == []
