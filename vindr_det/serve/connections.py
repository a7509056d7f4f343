"""Connections of clients that do not speak or do not listen: they end, and make way for others."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from h11 import LocalProtocolError
from uvicorn.protocols.http.h11_impl import H11Protocol

from vindr_det.serve.guards import Limits

#: Looks at whether a client takes its answer, within the time that it has for that.
_LOOKS = 8
#: Bytes of an answer that the system holds unsent; with more of them a slow client seems to take nothing.
_UNSENT_BYTES = 2**18


class Connection(H11Protocol):
    """A connection that waits for its client only so long.

    It waits until the head of a request is complete, from its beginning and after each answer, whatever
    arrives meanwhile; and while the client takes nothing of an answer. The time for a request's body is
    :class:`vindr_det.serve.guards.Guard`'s.

    Attributes:
        limits: of all connections.
        waits_since: by the loop's clock; None while it does not wait for its client.
    """

    limits = Limits()
    waits_since: float | None = None
    _state: tuple[bool, bool] | None = None
    _timer: asyncio.TimerHandle | None = None
    _left = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's
        """Take a place, of the connection that has waited longest if all are taken."""
        super().connection_made(transport)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # else it is not seen what is taken
            with suppress(OSError):  # it is lost already
                transport.get_extra_info("socket").setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._watch()
        if len(self.connections) > self.limits.connections:
            waiting = [other for other in self.connections if isinstance(other, Connection)
                       and other is not self and other.waits_since is not None]
            if waiting:
                min(waiting, key=lambda other: other.waits_since or 0.0).end()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP and close; a request that it is the body of gets no further answer."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        with suppress(LocalProtocolError):  # an answer has begun, or ended
            super().send_400_response(msg)
        self.transport.close()

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """The client has taken it."""
        super().resume_writing()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        super().connection_lost(exc)

    def end(self) -> None:
        """Close it at once, whatever was not sent yet."""
        self._stop()
        self.connections.discard(self)
        self.transport.abort()

    def _watch(self) -> None:
        """Begin to wait for the client anew, or stop waiting, where the state has changed."""
        between = self.cycle is None or self.cycle.response_complete
        state = between, self.flow.write_paused
        if state == self._state:
            return
        self._stop()
        self._state = state
        if any(state):
            self.waits_since, self._left = self.loop.time(), self.transport.get_write_buffer_size()
            self._look()

    def _look(self) -> None:
        """End a wait that is over; it begins anew whenever the client has taken some of an answer."""
        now, left = self.loop.time(), self.transport.get_write_buffer_size()
        if self.waits_since is None or left < self._left:
            self.waits_since = now
        self._left = left
        seconds = self.limits.answer_seconds if left else self.limits.head_seconds
        rest = self.waits_since + seconds - now
        if rest <= 0:
            self.end()
        else:
            self._timer = self.loop.call_later(min(rest, seconds / _LOOKS), self._look)

    def _stop(self) -> None:
        self.waits_since = self._state = None
        if self._timer is not None:
            self._timer.cancel()


def connection_of(limits: Limits) -> type[Any]:
    """The class of a server's connections.

    Args:
        limits: of all of them.
    """
    return type("LimitedConnection", (Connection,), {"limits": limits})
