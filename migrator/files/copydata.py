"""Read a long file without its COPY data, and read the data again when they are sent.

A dump may contain gigabytes of COPY data, which only the server interprets.
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
from .source import BOM, SourceDigest, read_source

PIECE = 1 << 16
"""How many bytes are read at a time: the server works on one piece while the next is read."""

_MARK = b"\\."  # the end of COPY data; a file without it is kept with its data
_END = re.compile(rb"\n\\\.\r?\n")


def read_long(path: Path, file: BinaryIO, *, size: int = PIECE) -> SourceFile:
    """Read a file as `read_source` does; its text is `Abridged` if it has COPY data.

    Args:
        size: How many bytes to read at a time.

    Raises:
        MigrationFileError: The bytes are not UTF-8, or contain a NUL.
    """
    if _has_mark(file, size):
        reader = _Reader(path, file, size)
        return SourceFile(path, reader.text(), reader.checksum())
    file.seek(0)
    return read_source(path, b"".join(iter(partial(file.read, -1), b"")))


def _has_mark(file: BinaryIO, size: int) -> bool:
    before = b""
    for piece in iter(partial(file.read, size), b""):
        if _MARK in piece or (before + piece).startswith(_MARK):
            return True
        before = piece[-1:]
    return False


class _Reader:
    """Takes every byte of a file once, in order, and keeps none of the COPY data."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._size = path, file, size
        self._digest = SourceDigest(path)
        self._at = 0  # bytes taken so far

    def text(self) -> str:
        """Return the text without the lines of COPY data."""
        parts: list[str] = []
        blocks: dict[int, Block] = {}
        length = 0
        self._file.seek(0)
        if self._file.read(len(BOM)) == BOM:
            self._take(BOM)
        while True:
            sql, has_data = self._sql()
            parts.append(sql)
            length += len(sql)
            if not has_data:
                return Abridged("".join(parts), blocks) if blocks else "".join(parts)
            blocks[length] = self._block()

    def checksum(self) -> str:
        """Return the checksum of all bytes taken."""
        return self._digest.checksum()

    def _sql(self) -> tuple[str, bool]:
        """Return the SQL up to the next COPY data, or to the end; and whether data follow."""
        size = self._size
        while True:
            self._file.seek(self._at)
            raw = b"".join(_pieces(self._file, size, self._size))
            try:
                text = codecs.getincrementaldecoder("utf-8")().decode(raw)
            except UnicodeDecodeError:
                self._take(raw)  # raises the error with the byte's place in the file
                raise
            first = _data_begin(text)
            if first is None and len(raw) == size:
                size *= 2
                continue
            self._take(raw if first is None else text[:first].encode())
            return text[:first], first is not None

    def _take(self, raw: bytes) -> None:
        self._digest.update(raw)
        self._at += len(raw)

    def _block(self) -> Block:
        """Take the lines of COPY data that begin here."""
        start, digest, lines, last = self._at, hashlib.sha256(), 0, b""
        for piece in _until_end(self._file, start, self._size):
            digest.update(piece)
            lines += piece.count(b"\n")
            if b"\r" in piece or last == b"\r":  # LF, CR and CRLF each end one line
                lines += piece.count(b"\r") - (last + piece).count(b"\r\n")
            last = piece[-1:] or last
            self._take(piece)
        return Block(self._path, start, self._at, lines, digest.hexdigest())


def _data_begin(text: str) -> int | None:
    """Return the offset of the first COPY data in the beginning of a text; None if unknown."""
    for statement in splitter.split(text):
        if statement.data:
            first = statement.data[0]
            # The data of a second COPY on the same line follow those of the first.
            is_single = "stdin" not in text[statement.end : first].lower()
            return first if first < len(text) and is_single else None
    return None


def _until_end(file: BinaryIO, first: int, size: int) -> Iterator[bytes]:
    r"""Read COPY data from a byte on, in pieces, up to a line `\.` or to the end of the file."""
    file.seek(first - 1)
    window, begin = file.read(1), 1  # the line end before the data, which `_END` needs
    while piece := file.read(size):
        window += piece
        if end := _END.search(window):
            yield window[begin : end.start() + 1]
            return
        if (settled := len(window) - 4) > 0:  # the last 4 bytes may be the beginning of `_END`
            yield window[begin:settled]
            window, begin = window[settled:], 0
    last = window.rfind(b"\n") + 1
    yield window[begin : last if window[last:] in (b"\\.", b"\\.\r") else len(window)]


def _pieces(file: BinaryIO, total: int, size: int) -> Iterator[bytes]:
    """Read up to `total` bytes, in pieces of at most `size`; fewer at the end of the file."""
    while total > 0 and (piece := file.read(min(total, size))):
        total -= len(piece)
        yield piece


def data(statement: Statement, *, size: int = PIECE) -> Iterator[bytes]:
    """Yield the lines of a statement's COPY data, in pieces.

    Args:
        size: The length of a piece, in bytes or characters.

    Raises:
        MigrationFileError: The data are in their file, which cannot be read or has changed.
            Everything yielded before must be rolled back.
    """
    assert statement.data is not None, "it is a COPY with data"
    block = statement.block
    if block is None:
        first, end = statement.data
        for start in range(first, end, size):
            yield statement.source[start : min(start + size, end)].encode()
        return
    digest = hashlib.sha256()
    try:
        with block.path.open("rb", buffering=0) as file:
            file.seek(block.start)
            for piece in _pieces(file, block.end - block.start, size):
                digest.update(piece)
                yield piece
    except OSError as error:
        message = f"{block.path} can no longer be read: {error.strerror}"
        raise MigrationFileError(message) from error
    if digest.hexdigest() != block.checksum:
        raise MigrationFileError(f"{block.path} changed while it was being run")


def lines(block: Block, first: int, last: int) -> list[str]:
    """Return some lines of COPY data without their line ends; the first line is 1.

    Returns:
        An empty list if the file cannot be read or has become shorter.
    """
    try:
        with block.path.open("rb") as file:
            file.seek(block.start)
            found = tuple(islice(file, first - 1, last))
            is_complete = file.tell() <= block.end and len(found) == last - first + 1
    except OSError:
        return []
    return [line.decode(errors="replace").rstrip("\r\n") for line in found] if is_complete else []
