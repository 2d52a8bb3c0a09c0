"""Read the bytes of a file as a source: its text and its checksum."""

from __future__ import annotations

import codecs
import hashlib
from typing import TYPE_CHECKING

from ..errors import MigrationFileError
from ..model import SourceFile

if TYPE_CHECKING:
    from pathlib import PurePath


BOM = b"\xef\xbb\xbf"
"""The byte order mark that some editors write before UTF-8."""


def read_source(path: PurePath, raw: bytes) -> SourceFile:
    """Decode the bytes of a file and compute their checksum.

    The checksum ignores a BOM, the CR of CRLF and white space at the end of the file, so that
    it is the same in a checkout on another system.

    Raises:
        MigrationFileError: The bytes are not UTF-8, or contain a NUL.
    """
    raw = raw.removeprefix(BOM)
    return SourceFile(path, _decode(path, raw), _checksum(raw))


def _checksum(raw: bytes) -> str:
    normal = _with_lf(raw)
    end = len(normal)
    while normal[end - 1 : end].isspace():
        end -= 1
    return hashlib.sha256(memoryview(normal)[:end]).hexdigest()  # no copy of a large file


def _decode(path: PurePath, raw: bytes) -> str:
    _refuse_nul_and_utf16(path, raw, 0)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error, 0) from error


class SourceDigest:
    """Checks a file and computes its checksum as `read_source` does, from pieces of its bytes."""

    def __init__(self, path: PurePath) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_first = True
        self._at = 0  # bytes after a BOM
        self._spaces = b""  # part of the checksum only if something follows

    def update(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            MigrationFileError: They are not UTF-8, or contain a NUL.
        """
        if self._is_first:
            self._is_first, piece = False, piece.removeprefix(BOM)
        _refuse_nul_and_utf16(self._path, piece, self._at)
        self._decode(piece)
        self._at += len(piece)
        padded = self._spaces + piece
        solid = padded.rstrip()
        self._spaces = padded[len(solid) :]
        self._digest.update(_with_lf(solid))

    def checksum(self) -> str:
        """Return the checksum of the file that ends here.

        Raises:
            MigrationFileError: The last character is incomplete.
        """
        self._decode(b"", is_last=True)
        return self._digest.hexdigest()

    def _decode(self, piece: bytes, *, is_last: bool = False) -> None:
        pending = len(self._decoder.getstate()[0])  # bytes of a character begun before
        try:
            self._decoder.decode(piece, is_last)
        except UnicodeDecodeError as error:
            raise _not_utf8(self._path, error, self._at - pending) from error


def _with_lf(raw: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw


def _refuse_nul_and_utf16(path: PurePath, raw: bytes, at: int) -> None:
    if not at and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _undecodable(path, f"is UTF-16, not UTF-8: byte 0 is 0x{raw[0]:02X}", "UTF-16")
    if (nul := raw.find(b"\0")) >= 0:
        message = f"{path} contains a NUL: byte {at + nul} is 0x00 (counted from 0)"
        raise MigrationFileError(message, hint="remove it: PostgreSQL text cannot contain a NUL")


def _not_utf8(path: PurePath, error: UnicodeDecodeError, at: int) -> MigrationFileError:
    byte = f"byte {at + error.start} is 0x{error.object[error.start]:02X}"
    return _undecodable(path, f"is not UTF-8: {byte}", "LATIN1")


def _undecodable(path: PurePath, message: str, encoding: str) -> MigrationFileError:
    return MigrationFileError(
        f"{path} {message} (counted from 0)",
        hint=f"save the file as UTF-8, for example: iconv -f {encoding} -t UTF-8 {path}",
    )
