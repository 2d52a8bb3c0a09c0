"""Read the messages of a connection: cut a stream, and see whether an answer is still due.

See "Message Formats" and "Message Flow" in the chapter on the frontend/backend protocol of
PostgreSQL's manual.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_READY, _AUTHENTICATED = b"Z", b"R"
# What ends the answer to each message of the client.
_ANSWERS = {
    b"P": b"1",
    b"B": b"2",
    b"D": b"Tn",
    b"E": b"CIs",
    b"C": b"3",
    b"S": _READY,
    b"Q": _READY,
    b"F": _READY,
    b"p": _AUTHENTICATED,
}
_SASL_FINAL = 12
_ENCRYPTION_REQUESTS = {80877103, 80877104}  # SSL, GSSAPI


class Message(NamedTuple):
    """One message; the first one of a client has no kind."""

    kind: bytes
    raw: bytes

    @property
    def body(self) -> bytes:
        """What comes after the kind and the length."""
        return self.raw[len(self.kind) + 4 :]


class Messages:
    """Cut the stream of one side into messages, however it arrives.

    Attributes:
        is_typed: Whether the next message has a kind; the first one of a client has none.
    """

    def __init__(self, *, is_typed: bool) -> None:
        self._is_typed = is_typed
        self._left = b""

    @property
    def is_inside(self) -> bool:
        """Whether the stream has stopped inside a message."""
        return bool(self._left)

    def cut(self, data: bytes) -> list[Message]:
        """Return the messages that are complete with these data."""
        data, at, messages = self._left + data, 0, []
        while len(data) >= (start := at + self._is_typed) + 4:
            end = start + int.from_bytes(data[start : start + 4])
            if end > len(data):
                break
            messages.append(Message(data[at:start], data[at:end]))
            at, self._is_typed = end, True
        self._left = data[at:]
        return messages


class Conversation:
    """What the server still owes the client on one unencrypted connection."""

    def __init__(self) -> None:
        self._asked, self._answered = Messages(is_typed=False), Messages(is_typed=True)
        self._owed: deque[bytes] = deque()
        self._skips = False  # an error, and no Sync since
        self._takes_data = False  # COPY … FROM stdin

    @property
    def is_settled(self) -> bool:
        """Whether the server has answered everything that it can answer so far."""
        return self._takes_data or not (self._owed or self._asked.is_inside)

    def ask(self, data: bytes) -> None:
        """Take what the client sends."""
        for message in self._asked.cut(data):
            if message.kind == b"":
                request = int.from_bytes(message.body[:4])
                assert request not in _ENCRYPTION_REQUESTS, "sslmode=disable gssencmode=disable"
                self._owed.append(_AUTHENTICATED)
            elif message.kind in (b"c", b"f"):
                self._takes_data = False
            elif message.kind == b"S" or (message.kind in _ANSWERS and not self._skips):
                self._owed.append(_ANSWERS[message.kind])
                self._skips = False

    def answer(self, data: bytes) -> None:
        """Take what the server sends."""
        for message in self._answered.cut(data):
            if message.kind == b"R":
                self._authenticate(int.from_bytes(message.body[:4]))
            elif message.kind == b"E":
                self._fail()
            elif message.kind in (b"G", b"W"):
                self._takes_data = True
            elif self._owed and message.kind in self._owed[0]:
                self._owed.popleft()

    def _authenticate(self, request: int) -> None:
        self._owed.popleft()
        if request == 0:
            self._owed.appendleft(_READY)
        elif request == _SASL_FINAL:
            self._owed.appendleft(_AUTHENTICATED)

    def _fail(self) -> None:
        while self._owed and self._owed[0] != _READY:
            self._owed.popleft()
        self._takes_data = False
        self._skips = not self._owed
