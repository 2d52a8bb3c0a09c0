"""Stand between a client on 127.0.0.1 and the server's socket: delay, count round trips, strike.

On threads: the clock of asyncio has a resolution of a millisecond.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue

from psycopg.conninfo import conninfo_to_dict

from .protocol import Conversation, Message, Messages

_PIECE = 1 << 18
_QUIET = 0.05  # seconds of silence after which the client is taken to wait
_STATEMENTS = (b"P", b"Q")  # Parse, Query
_SENT = (b"Q", b"S", b"H")  # Query, Sync, Flush: the server works on what it has got
_CANCEL_REQUEST = 80877102

Carry = Callable[[socket.socket, socket.socket], None]
"""Carry one connection, given the client's and the server's end, until both have ended."""


@dataclass(slots=True)
class Proxy:
    """A running proxy.

    Attributes:
        url: Where its clients connect; without encryption.
        round_trips: One number a connection, in the order of connecting; they grow.
            Empty unless they are counted.
    """

    url: str = ""
    round_trips: list[int] = field(default_factory=list)


@contextmanager
def _listening(url: str, carry: Carry) -> Iterator[str]:
    """Accept connections for a `with`, and yield the URL to connect to."""
    place = conninfo_to_dict(url)
    path = f"{place['host']}/.s.PGSQL.{place['port']}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, path, carry), daemon=True).start()
        host, port = listener.getsockname()
        yield (
            f"postgresql://{place['user']}@{host}:{port}/{place['dbname']}"
            "?sslmode=disable&gssencmode=disable"
        )
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, path: str, carry: Carry) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # it was shut down
            return
        threading.Thread(target=_connect, args=(client, path, carry), daemon=True).start()


def _connect(client: socket.socket, path: str, carry: Carry) -> None:
    """Connect a client to the server; cut it off if the server is down, or goes down."""
    with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
        server.connect(path)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        carry(client, server)


def _pieces(source: socket.socket) -> Iterator[bytes]:
    """Yield what arrives until the connection ends, whatever ends it."""
    with suppress(OSError):
        while data := source.recv(_PIECE):
            yield data


def _end(sink: socket.socket, how: int = socket.SHUT_WR) -> None:
    with suppress(OSError):
        sink.shutdown(how)


# Delay


@contextmanager
def delaying(url: str, seconds: float) -> Iterator[Proxy]:
    """Deliver everything late, in both directions: half a round trip each."""

    def carry(client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=_deliver_late, args=(server, client, seconds), daemon=True)
        back.start()
        _deliver_late(client, server, seconds)
        back.join()

    with _listening(url, carry) as address:
        yield Proxy(address)


def _deliver_late(source: socket.socket, sink: socket.socket, seconds: float) -> None:
    under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def deliver() -> None:
        while True:
            due, data = under_way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            if not data:
                _end(sink)
                return
            with suppress(OSError):
                sink.sendall(data)

    thread = threading.Thread(target=deliver, daemon=True)
    thread.start()
    for data in _pieces(source):
        under_way.put((time.monotonic() + seconds, data))
    under_way.put((time.monotonic() + seconds, b""))
    thread.join()


# Count round trips


@contextmanager
def counting(url: str, quiet: float = _QUIET) -> Iterator[Proxy]:
    """Count round trips: how often a client waits for an answer before it sends on.

    The answers are held back until the server has answered everything and the client is silent,
    as if the network were slower than both.  A client that sends on without waiting is thus
    never counted as one that waits, however fast the answers are.  Terminate, which has no
    answer, is no round trip.

    Args:
        quiet: How long the client has to be silent, in seconds; 0 for one that always waits.
    """
    proxy = Proxy()

    def carry(client: socket.socket, server: socket.socket) -> None:
        number = len(proxy.round_trips)
        proxy.round_trips.append(0)

        def count() -> None:
            proxy.round_trips[number] += 1

        turns = _Turns(client, count, quiet)
        threading.Thread(target=turns.carry_back, args=(server,), daemon=True).start()
        threading.Thread(target=turns.release, daemon=True).start()
        turns.carry_there(server)

    with _listening(url, carry) as proxy.url:
        yield proxy


class _Turns:
    """One connection on which client and server take turns."""

    def __init__(self, client: socket.socket, count: Callable[[], None], quiet: float) -> None:
        self._client, self._count, self._quiet = client, count, quiet
        self._conversation = Conversation()
        self._changed = threading.Condition()
        self._heard_at = 0.0  # when the client last sent something
        self._held = b""
        self._has_ended = False

    def carry_there(self, server: socket.socket) -> None:
        """Pass on at once what the client sends."""
        for data in _pieces(self._client):
            with self._changed:
                self._conversation.ask(data)
                self._heard_at = time.monotonic()
            server.sendall(data)
        _end(server)
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended)

    def carry_back(self, server: socket.socket) -> None:
        """Hold back what the server answers."""
        for data in _pieces(server):
            with self._changed:
                self._conversation.answer(data)
                self._held += data
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def release(self) -> None:
        """Deliver the answers whenever it is the client's turn."""
        while True:
            with self._changed:
                self._changed.wait_for(self._is_clients_turn)
                while (rest := self._heard_at + self._quiet - time.monotonic()) > 0:
                    self._changed.wait(rest)
                if not self._is_clients_turn():
                    continue
                held, self._held = self._held, b""
            if not held:
                _end(self._client)
                return
            self._count()
            with suppress(OSError):
                self._client.sendall(held)

    def _is_clients_turn(self) -> bool:
        return self._has_ended or (bool(self._held) and self._conversation.is_settled)


# Lose a request to cancel, answer nonsense


@contextmanager
def losing_the_first_cancel(url: str) -> Iterator[Proxy]:
    """Forward everything but the first request to cancel, which is not answered either."""
    lost: list[socket.socket] = []

    def carry(client: socket.socket, server: socket.socket) -> None:
        first = client.recv(_PIECE)
        if int.from_bytes(first[4:8]) == _CANCEL_REQUEST and not lost:
            lost.append(client)
            for _ in _pieces(client):  # until the client gives up
                pass
            return
        server.sendall(first)
        back = threading.Thread(target=_forward, args=(server, client), daemon=True)
        back.start()
        _forward(client, server)
        back.join()

    with _listening(url, carry) as address:
        yield Proxy(address)


@contextmanager
def garbling(url: str, old: bytes, new: bytes) -> Iterator[Proxy]:
    """Replace bytes by as many others in what the server answers."""
    assert len(old) == len(new), "a message says how long it is"

    def carry(client: socket.socket, server: socket.socket) -> None:
        arguments = (server, client, old, new)
        back = threading.Thread(target=_forward, args=arguments, daemon=True)
        back.start()
        _forward(client, server)
        back.join()

    with _listening(url, carry) as address:
        yield Proxy(address)


def _forward(
    source: socket.socket, sink: socket.socket, old: bytes = b"", new: bytes = b""
) -> None:
    for data in _pieces(source):
        with suppress(OSError):
            sink.sendall(data.replace(old, new) if old else data)
    _end(sink)


# Strike


@dataclass(slots=True)
class Link:
    """One connection of the client.

    Attributes:
        pid: The server process of the connection; None until the server has named it.
        sent: The statements forwarded so far.
        is_keeper: It has asked for the runner's lock.
        tells: Cleared, the client hears nothing of the server, not even that it has gone.
    """

    client: socket.socket
    server: socket.socket
    pid: int | None = None
    sent: list[str] = field(default_factory=list)
    is_keeper: bool = False
    is_open: bool = True
    tells: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.tells.set()

    def cut(self) -> None:
        """End the connection on both sides at once."""
        self.is_open = False
        self.tells.set()
        for end in (self.client, self.server):
            _end(end, socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class Moment:
    """When to act: at the n-th statement that the client sends, from 0.

    Attributes:
        delay: In seconds, after the statement has reached the server, or would have.
        before: The server gets the statement only when the act is over.
        withheld: The client gets the server's answers only when the act is over.
    """

    number: int
    delay: float
    before: bool = False
    withheld: bool = False


@dataclass(slots=True)
class StrikingProxy:
    """The connections of one client, which can be frozen and cut.

    Attributes:
        url: Where the client connects; without encryption.
        moment: When `act` is called, by the thread that forwards; None for never.
        statements: Those of all connections, in the order in which they arrived.
    """

    url: str = ""
    moment: Moment | None = None
    act: Callable[[], None] = lambda: None
    links: list[Link] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    _flows_up: threading.Event = field(default_factory=threading.Event)
    _flows_down: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.thaw()

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

    def carry(self, client: socket.socket, server: socket.socket) -> None:
        """Carry one connection, until both sides have ended it or it is cut."""
        link = Link(client, server)
        back = threading.Thread(target=self._carry_back, args=(link,), daemon=True)
        back.start()
        with suppress(OSError):
            self._carry_there(link)
        # The server is told that the client has ended, and may still have something to send.
        self._flows_up.wait()
        _end(server)
        back.join()
        link.cut()

    def _carry_back(self, link: Link) -> None:
        messages = Messages(is_typed=True)
        with suppress(OSError):
            for data in _pieces(link.server):
                if link.pid is None:
                    link.pid = _backend_pid(messages.cut(data))
                self._flows_down.wait()
                link.tells.wait()
                link.client.sendall(data)
        link.tells.wait()
        if link.is_open:
            self._flows_down.wait()
            _end(link.client)

    def _carry_there(self, link: Link) -> None:
        messages, is_due = Messages(is_typed=False), False
        for message in (each for data in _pieces(link.client) for each in messages.cut(data)):
            if message.kind == b"" and int.from_bytes(message.body[:4]) != _CANCEL_REQUEST:
                self.links.append(link)
            if is_due and message.kind in _STATEMENTS:
                self._act_after()
                is_due = False
            if message.kind in _STATEMENTS:
                is_due = self._note(link, _statement(message))
            self._flows_up.wait()
            link.server.sendall(message.raw)
            if is_due and message.kind in _SENT:
                self._act_after()
                is_due = False

    def _note(self, link: Link, statement: str) -> bool:
        """Count a statement; act if it is time to, and return whether to act after it."""
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

    def _act_after(self) -> None:
        assert self.moment is not None, "it is due"
        time.sleep(self.moment.delay)
        was_withheld = self.moment.withheld
        self.act()
        if was_withheld and self._flows_up.is_set():
            self._flows_down.set()


@contextmanager
def striking(url: str) -> Iterator[StrikingProxy]:
    """Forward message by message; cut every connection at the end of the `with`."""
    proxy = StrikingProxy()
    with _listening(url, proxy.carry) as proxy.url:
        yield proxy
    proxy.thaw()
    for link in proxy.links:
        link.cut()


def _statement(message: Message) -> str:
    text = message.body.partition(b"\0")[2] if message.kind == b"P" else message.body
    return text.partition(b"\0")[0].decode(errors="replace")


def _backend_pid(messages: list[Message]) -> int | None:
    """Return the process that BackendKeyData names; None if it is not among these messages."""
    return next((int.from_bytes(m.body[:4]) for m in messages if m.kind == b"K"), None)
