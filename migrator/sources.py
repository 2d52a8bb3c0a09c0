"""Read the bytes of a file as a source: its text and its checksum."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .errors import MigrationFileError
from .model import SourceFile

if TYPE_CHECKING:
    from pathlib import PurePath


def read(path: PurePath, raw: bytes) -> SourceFile:
    """Decode a file and sum it up.

    The checksum leaves out a BOM, the CR of CRLF and white space at the end of the file,
    so that a checkout on another system has the same one.

    Raises:
        MigrationFileError: The bytes are not UTF-8, or hold a NUL.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    return SourceFile(path, _decode(path, raw), _checksum(raw))


def _checksum(raw: bytes) -> str:
    normal = raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw
    end = len(normal)
    while normal[end - 1 : end].isspace():
        end -= 1
    return hashlib.sha256(memoryview(normal)[:end]).hexdigest()  # a seed is not copied for this


def _decode(path: PurePath, raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise _undecodable(path, f"is UTF-16, not UTF-8: byte 0 is 0x{raw[0]:02X}", "UTF-16")
    if (at := raw.find(b"\0")) >= 0:
        message = f"{path} holds a NUL: byte {at} is 0x00 (counted from 0)"
        raise MigrationFileError(message, hint="remove it: PostgreSQL takes no NUL in any text")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        byte = f"byte {error.start} is 0x{raw[error.start]:02X}"
        raise _undecodable(path, f"is not UTF-8: {byte}", "LATIN1") from error


def _undecodable(path: PurePath, message: str, encoding: str) -> MigrationFileError:
    return MigrationFileError(
        f"{path} {message} (counted from 0)",
        hint=f"save the file as UTF-8, for example: iconv -f {encoding} -t UTF-8 {path}",
    )
