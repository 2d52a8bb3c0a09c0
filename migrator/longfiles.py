"""Read a long file: its text without the lines of its COPY data, which stay on the disk until then.

A dump has gigabytes of them, and nothing but the server reads them.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from . import sources, sqltext
from .errors import MigrationFileError
from .model import SourceFile
from .script import Abridged, Block, Statement

_PIECE = 1 << 16  # bytes: the server is at work on one while the next is read
_WINDOW = 1 << 16  # bytes of SQL in which a COPY is looked for, at first
_MARKS = (b"stdin", b"STDIN")  # a file without them has no COPY data; with others it is read whole
_CLOSING = re.compile(rb"\n\\\.\r?\n")


def read(path: Path, file: BinaryIO) -> SourceFile:
    """Read a file as `sources.read` does; its text is `Abridged` if it has COPY data.

    Raises:
        MigrationFileError: The bytes are not UTF-8, or hold a NUL.
    """
    summed = sources.Sum(path)
    parts: list[str] = []
    before, has_mark = b"", False
    for piece in iter(partial(file.read, _PIECE), b""):
        parts.append(summed.take(piece))
        has_mark = has_mark or any(mark in before + piece for mark in _MARKS)
        before = piece[-len(_MARKS[0]) :]
        if has_mark:
            parts.clear()
    checksum = summed.end()
    text = _abridged(path, file) if has_mark else "".join(parts)
    return SourceFile(path, text, checksum)


def _abridged(path: Path, file: BinaryIO) -> str:
    file.seek(0)
    at = len(sources.BOM) if file.read(len(sources.BOM)) == sources.BOM else 0
    parts: list[str] = []
    blocks: dict[int, Block] = {}
    length = 0
    while True:
        sql, first = _sql(file, at)
        parts.append(sql)
        length += len(sql)
        if first is None:
            return Abridged("".join(parts), blocks)
        block, lines = _block(path, file, first)
        blocks[length] = block
        parts.append("\n" * lines)
        length += lines
        at = block.end


def _sql(file: BinaryIO, at: int) -> tuple[str, int | None]:
    """Read SQL from a byte on: to where COPY data begin, which comes as well, or to the end."""
    size = _WINDOW
    while True:
        file.seek(at)
        raw = file.read(size)
        is_all = len(raw) < size
        text = codecs.getincrementaldecoder("utf-8")().decode(raw, is_all)
        if first := _data_begin(text):
            return text[:first], at + len(text[:first].encode())
        if is_all:
            return text, None
        size *= 2


def _data_begin(text: str) -> int | None:
    """Return where the first COPY data begin in a text that may be cut off; None if not here."""
    for statement in sqltext.split(text):
        if statement.data:
            first = statement.data[0]
            # A second COPY on the line of the first one has its data behind those of that.
            is_single = "stdin" not in text[statement.end : first].lower()
            return first if first < len(text) and is_single else None
    return None


def _block(path: Path, file: BinaryIO, first: int) -> tuple[Block, int]:
    """Sum up the lines of data that begin at a byte, and count them."""
    end, digest, lines = _end(file, first), hashlib.sha256(), 0
    file.seek(first)
    for piece in _pieces(file, end - first):
        digest.update(piece)
        lines += piece.count(b"\n")
    return Block(path, first, end, digest.hexdigest()), lines


def _end(file: BinaryIO, first: int) -> int:
    r"""Find where lines of data end: before a line `\.`, or with the file."""
    at, window = first - 1, b""  # the line end before them
    file.seek(at)
    while piece := file.read(_PIECE):
        window += piece
        if closing := _CLOSING.search(window):
            return at + closing.start() + 1
        at += max(0, len(window) - 4)
        window = window[-4:]
    last = window.rfind(b"\n") + 1
    return at + (last if window[last:] in (b"\\.", b"\\.\r") else len(window))


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(size, _PIECE))):
        size -= len(piece)
        yield piece


def data(statement: Statement) -> Iterator[bytes]:
    """Give the lines of a statement's COPY data, in pieces.

    Raises:
        MigrationFileError: They stayed in the file, and are others by now.
    """
    assert statement.data is not None, "it is a COPY with data"
    block = statement.block
    if block is None:
        first, end = statement.data
        for start in range(first, end, _PIECE):
            yield statement.source[start : min(start + _PIECE, end)].encode()
        return
    digest = hashlib.sha256()
    try:
        with block.path.open("rb", buffering=0) as file:
            file.seek(block.start)
            for piece in _pieces(file, block.end - block.start):
                digest.update(piece)
                yield piece
    except OSError as error:
        raise _changed(block, f"cannot be read any more: {error.strerror}") from error
    if digest.hexdigest() != block.checksum:
        raise _changed(block, "was changed while it was being run")


def _changed(block: Block, what: str) -> MigrationFileError:
    hint = "its transaction was rolled back: leave the file as it is to be, and run it again"
    return MigrationFileError(f"{block.path} {what}", hint=hint)


def lines(block: Block, first: int, last: int) -> list[str]:
    """Read some lines of the data, without their ends; they are numbered from 1."""
    with block.path.open("rb") as file:
        file.seek(block.start)
        found = tuple(islice(file, first - 1, last))
    return [line.decode(errors="replace").rstrip("\r\n") for line in found]
