"""Read a long file: its COPY data stay on the disk until they are sent.

A dump has gigabytes of them, and only the server reads them.
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

from ..errors import MigrationFileError
from ..model import SourceFile
from ..sql import splitter
from ..sql.script import Abridged, Block, Statement
from . import source

_PIECE = 1 << 16  # bytes: the server works on one piece while the next is read
_WINDOW = 1 << 16  # bytes of SQL that are searched for a COPY at first
_MARK = b"\\."  # it ends COPY data; a file that has none is read completely
_CLOSING = re.compile(rb"\n\\\.\r?\n")


def read(path: Path, file: BinaryIO, *, piece: int = _PIECE, window: int = _WINDOW) -> SourceFile:
    """Read a file as `read_source` does; its text is `Abridged` if it has COPY data.

    Args:
        piece: How much of the data is read at once, in bytes.
        window: How much SQL is searched for a COPY at first, in bytes.

    Raises:
        MigrationFileError: The bytes are not UTF-8, or hold a NUL.
    """
    if _has_mark(file, piece):
        abridging = _Abridging(path, file, piece, window)
        return SourceFile(path, abridging.text(), abridging.checksum())
    file.seek(0)
    return source.read_source(path, b"".join(iter(partial(file.read, -1), b"")))


def _has_mark(file: BinaryIO, size: int) -> bool:
    before = b""
    for piece in iter(partial(file.read, size), b""):
        if _MARK in piece or (before + piece).startswith(_MARK):
            return True
        before = piece[-1:]
    return False


class _Abridging:
    """A reading of a file that takes every byte once, in order, and holds no COPY data."""

    def __init__(self, path: Path, file: BinaryIO, piece: int, window: int) -> None:
        self._path, self._file = path, file
        self._piece, self._window = piece, window
        self._sum = source.Sum(path)
        self._at = 0  # bytes that were taken

    def text(self) -> str:
        """Give the text without the lines of its COPY data."""
        parts: list[str] = []
        blocks: dict[int, Block] = {}
        length = 0
        self._file.seek(0)
        if self._file.read(len(source.BOM)) == source.BOM:
            self._take(source.BOM)
        while True:
            sql, has_data = self._sql()
            parts.append(sql)
            length += len(sql)
            if not has_data:
                return Abridged("".join(parts), blocks) if blocks else "".join(parts)
            blocks[length] = self._block()

    def checksum(self) -> str:
        """Return that of all bytes that were taken."""
        return self._sum.end()

    def _sql(self) -> tuple[str, bool]:
        """Read SQL to where COPY data begin, and tell whether they do, or to the end."""
        size = self._window
        while True:
            self._file.seek(self._at)
            raw = b"".join(_pieces(self._file, size, self._piece))
            try:
                text = codecs.getincrementaldecoder("utf-8")().decode(raw)
            except UnicodeDecodeError:
                self._take(raw)  # it says the same in our words
                raise
            first = _data_begin(text)
            if first is None and len(raw) == size:
                size *= 2
                continue
            self._take(raw if first is None else text[:first].encode())
            return text[:first], first is not None

    def _take(self, raw: bytes) -> None:
        self._sum.take(raw)
        self._at += len(raw)

    def _block(self) -> Block:
        """Sum up the lines of data that begin here, and count their ends."""
        start, digest, lines, last = self._at, hashlib.sha256(), 0, b""
        for piece in _until_closed(self._file, start, self._piece):
            digest.update(piece)
            lines += piece.count(b"\n")
            if b"\r" in piece or last == b"\r":  # each ends a line, and both together one
                lines += piece.count(b"\r") - (last + piece).count(b"\r\n")
            last = piece[-1:] or last
            self._take(piece)
        return Block(self._path, start, self._at, lines, digest.hexdigest())


def _data_begin(text: str) -> int | None:
    """Return where the first COPY data begin in a text that may be cut off; None if not here."""
    for statement in splitter.split(text):
        if statement.data:
            first = statement.data[0]
            # A second COPY on the line of the first one has its data behind those of that.
            is_single = "stdin" not in text[statement.end : first].lower()
            return first if first < len(text) and is_single else None
    return None


def _until_closed(file: BinaryIO, first: int, size: int) -> Iterator[bytes]:
    r"""Read the lines of data that begin at a byte, in pieces: to a line `\.`, or to the end."""
    file.seek(first - 1)
    window, begin = file.read(1), 1  # the line end before them is not of them
    while piece := file.read(size):
        window += piece
        if closing := _CLOSING.search(window):
            yield window[begin : closing.start() + 1]
            return
        if (settled := len(window) - 4) > 0:  # what is left may be the beginning of the closing
            yield window[begin:settled]
            window, begin = window[settled:], 0
    last = window.rfind(b"\n") + 1
    yield window[begin : last if window[last:] in (b"\\.", b"\\.\r") else len(window)]


def _pieces(file: BinaryIO, total: int, size: int) -> Iterator[bytes]:
    """Read `total` bytes in pieces of up to `size`; fewer if the file ends before."""
    while total > 0 and (piece := file.read(min(total, size))):
        total -= len(piece)
        yield piece


def data(statement: Statement, *, piece: int = _PIECE) -> Iterator[bytes]:
    """Yield the lines of a statement's COPY data, in pieces.

    Args:
        piece: The longest of them, in bytes (in characters if the data are in memory).

    Raises:
        MigrationFileError: The data stayed in the file, which was changed or removed since.
            It has no hint: that depends on the caller.
    """
    assert statement.data is not None, "it is a COPY with data"
    block = statement.block
    if block is None:
        first, end = statement.data
        for start in range(first, end, piece):
            yield statement.source[start : min(start + piece, end)].encode()
        return
    digest = hashlib.sha256()
    try:
        with block.path.open("rb", buffering=0) as file:
            file.seek(block.start)
            for raw in _pieces(file, block.end - block.start, piece):
                digest.update(raw)
                yield raw
    except OSError as error:
        message = f"{block.path} cannot be read any more: {error.strerror}"
        raise MigrationFileError(message) from error
    if digest.hexdigest() != block.checksum:
        raise MigrationFileError(f"{block.path} was changed while it was being run")


def lines(block: Block, first: int, last: int) -> list[str]:
    """Read some lines of the data, without their ends; they are numbered from 1.

    Returns:
        No lines if the file cannot be read, or is shorter than it was.
    """
    try:
        with block.path.open("rb") as file:
            file.seek(block.start)
            found = tuple(islice(file, first - 1, last))
            is_whole = file.tell() <= block.end and len(found) == last - first + 1
    except OSError:
        return []
    return [line.decode(errors="replace").rstrip("\r\n") for line in found] if is_whole else []
