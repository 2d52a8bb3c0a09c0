"""Stand between a client and its server: count what is sent, hold it, freeze it, cut it.

The client talks TCP to a port on 127.0.0.1; the server is reached by its socket.  Messages
are those of "Message Formats" in PostgreSQL's manual.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_STATEMENTS = {b"P": "parse", b"Q": "query"}
_CANCEL_REQUEST = 80877102


@dataclass(slots=True)
class Link:
    """One connection of the client.

    Attributes:
        pid: The server process behind it; None until the server has said so.
        sent: The statements forwarded so far.
        is_keeper: It has asked for the runner's lock.
    """

    client: socket.socket
    server: socket.socket
    pid: int | None = None
    sent: list[str] = field(default_factory=list)
    is_keeper: bool = False
    is_open: bool = True

    def cut(self) -> None:
        """End it on both sides, without a word."""
        self.is_open = False
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Moment:
    """When to act: at the n-th statement that the client sends, from 0.

    Attributes:
        delay: In seconds, behind the moment at which it would reach the server.
        before: The server does not get it before all is over.
        withheld: The server's answers are kept from the client until all is over.
    """

    number: int
    delay: float
    before: bool = False
    withheld: bool = False


@dataclass(slots=True)
class Proxy:
    """The server as one client sees it.

    Attributes:
        address: Of the server's socket.
        moment: When `act` is called, by the thread that forwards; None for never.
    """

    address: str
    moment: Moment | None = None
    act: Callable[[], None] = lambda: None
    links: list[Link] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=socket.socket)
    _flows_up: threading.Event = field(default_factory=threading.Event)
    _flows_down: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.thaw()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where the client connects to."""
        return int(self._listener.getsockname()[1])

    @property
    def worker(self) -> Link | None:
        """The connection that the migrations run on: the first one."""
        return self.links[0] if self.links else None

    @property
    def keeper(self) -> Link | None:
        """The connection that holds the runner's lock."""
        return next((link for link in self.links if link.is_keeper), None)

    def freeze(self) -> None:
        """Let nothing pass, in neither direction."""
        self._flows_up.clear()
        self._flows_down.clear()

    def thaw(self) -> None:
        """Let everything pass again."""
        self._flows_up.set()
        self._flows_down.set()

    def close(self) -> None:
        """Cut every connection, and accept no more."""
        self._listener.close()
        self.thaw()
        for link in self.links:
            link.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self.address)
            except OSError:
                client.close()
                server.close()
                continue
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        link = Link(client, server)
        first = client.recv(8, socket.MSG_PEEK | socket.MSG_WAITALL)
        if first[4:] != struct.pack("!i", _CANCEL_REQUEST):
            self.links.append(link)
        down = threading.Thread(target=self._forward_answers, args=(link,), daemon=True)
        down.start()
        with contextlib.suppress(OSError):
            self._forward_statements(link)
        # The end of the client is passed on; the server may still have something to say.
        self._flows_up.wait()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)
        down.join()
        link.cut()
        client.close()
        server.close()

    def _forward_answers(self, link: Link) -> None:
        head = b""
        with contextlib.suppress(OSError):
            while data := link.server.recv(1 << 16):
                if link.pid is None:
                    head += data
                    link.pid = _backend_pid(head)
                self._flows_down.wait()
                link.client.sendall(data)
        if link.is_open:
            self._flows_down.wait()
            with contextlib.suppress(OSError):
                link.client.shutdown(socket.SHUT_WR)

    def _forward_statements(self, link: Link) -> None:
        is_due = False
        for kind, message in _messages(link.client):
            if is_due and kind in _STATEMENTS:
                self._act_behind()
                is_due = False
            statement = _statement(kind, message)
            if statement is not None:
                is_due = self._note(link, statement)
            self._flows_up.wait()
            link.server.sendall(message)
            if is_due and kind in (b"Q", b"S", b"H"):
                self._act_behind()
                is_due = False

    def _note(self, link: Link, statement: str) -> bool:
        """Count a statement; act if its moment is before it, return whether it is behind it."""
        with self._lock:
            number = len(self.statements)
            self.statements.append(statement)
        moment = self.moment if self.moment and self.moment.number == number else None
        if moment and moment.before:
            time.sleep(moment.delay)
            self.act()
        link.sent.append(statement)
        link.is_keeper |= "pg_try_advisory_xact_lock" in statement
        if not moment or moment.before:
            return False
        if moment.withheld:
            self._flows_down.clear()
        return True

    def _act_behind(self) -> None:
        assert self.moment is not None, "it is due"
        time.sleep(self.moment.delay)
        was_withheld = self.moment.withheld
        self.act()
        if was_withheld and self._flows_up.is_set():
            self._flows_down.set()


def _messages(client: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Yield what the client sends, message by message; the first one has no kind."""
    buffer, has_kind = b"", False
    while data := client.recv(1 << 16):
        buffer += data
        while True:
            start = 1 if has_kind else 0
            if len(buffer) < start + 4:
                break
            end = start + struct.unpack_from("!i", buffer, start)[0]
            if len(buffer) < end:
                break
            yield buffer[:start], buffer[:end]
            buffer, has_kind = buffer[end:], True


def _statement(kind: bytes, message: bytes) -> str | None:
    if kind not in _STATEMENTS:
        return None
    body = message[5:]
    text = body.partition(b"\0")[2] if kind == b"P" else body
    return text.partition(b"\0")[0].decode(errors="replace")


def _backend_pid(head: bytes) -> int | None:
    """Find BackendKeyData among the server's first messages."""
    at = 0
    while len(head) >= at + 9:
        if head[at : at + 1] == b"K":
            return int(struct.unpack_from("!i", head, at + 5)[0])
        at += 1 + struct.unpack_from("!i", head, at + 1)[0]
    return None
