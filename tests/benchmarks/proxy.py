"""Stand between a client on 127.0.0.1 and the server's socket: add a delay, or count round trips.

On threads: asyncio's clock has a resolution of a millisecond.
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

from .protocol import Conversation

_PIECE = 1 << 18
_QUIET = 0.05  # seconds without a word from the client after which it is taken to wait

Line = Callable[[socket.socket, socket.socket], None]
"""Carry one connection, from the client's end and the server's end, until both have ended."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy.

    Attributes:
        url: Where its clients connect; without encryption.
        round_trips: One number a connection, in the order of connecting; they grow.
            Empty where nothing is counted.
    """

    url: str
    round_trips: list[int] = field(default_factory=list)


@contextmanager
def delaying(url: str, seconds: float) -> Iterator[Proxy]:
    """Deliver everything so many seconds late, in both directions: half a round trip each."""

    def carry(client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=_deliver_late, args=(server, client, seconds), daemon=True)
        back.start()
        _deliver_late(client, server, seconds)
        back.join()

    with _listening(url, carry) as address:
        yield Proxy(address)


@contextmanager
def counting(url: str, quiet: float = _QUIET) -> Iterator[Proxy]:
    """Count round trips: how often a client waits for an answer before it sends on.

    What the server answers is kept back until all that the client has sent is answered and
    the client is silent, as if the network were slower than both of them: so a client that
    sends on without waiting is never counted as one that waits, however fast the answers
    are.  The goodbye of a client, which nobody answers, is no round trip.

    Args:
        quiet: How long it is to be silent, in seconds; one that always waits needs none.
    """
    proxy = Proxy("")

    def carry(client: socket.socket, server: socket.socket) -> None:
        number = len(proxy.round_trips)
        proxy.round_trips.append(0)
        turns = _Turns(client, lambda: _add(proxy.round_trips, number), quiet)
        threading.Thread(target=turns.carry_back, args=(server,), daemon=True).start()
        threading.Thread(target=turns.release, daemon=True).start()
        turns.carry_there(server)

    with _listening(url, carry) as address:
        yield Proxy(address, proxy.round_trips)


def _add(numbers: list[int], index: int) -> None:
    numbers[index] += 1


@contextmanager
def _listening(url: str, carry: Line) -> Iterator[str]:
    """Accept connections for a `with`, and give the URL to make them by."""
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


def _accept(listener: socket.socket, path: str, carry: Line) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # it was shut down
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect(path)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_carry, args=(client, server, carry), daemon=True).start()


def _carry(client: socket.socket, server: socket.socket, carry: Line) -> None:
    with client, server, suppress(OSError):
        carry(client, server)


def _pieces(source: socket.socket) -> Iterator[bytes]:
    """Give what arrives, to the end of the connection, however that comes."""
    with suppress(OSError):
        while data := source.recv(_PIECE):
            yield data


def _end(sink: socket.socket) -> None:
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


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


class _Turns:
    """One connection on which client and server take turns."""

    def __init__(self, client: socket.socket, count: Callable[[], None], quiet: float) -> None:
        self._client, self._count, self._quiet = client, count, quiet
        self._conversation = Conversation()
        self._changed = threading.Condition()
        self._heard_at = 0.0  # when the client last said something
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
        """Keep what the server answers."""
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
                self._changed.wait_for(self._has_the_word)
                while (rest := self._heard_at + self._quiet - time.monotonic()) > 0:
                    self._changed.wait(rest)
                if not self._has_the_word():
                    continue
                held, self._held = self._held, b""
            if not held:
                _end(self._client)
                return
            self._count()
            with suppress(OSError):
                self._client.sendall(held)

    def _has_the_word(self) -> bool:
        return self._has_ended or (bool(self._held) and self._conversation.is_settled)
