"""Connections of clients that do not speak or do not listen: they end, and make way for others."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from vindr_det.serve.guards import Limits


class Connection(H11Protocol):
    """A connection that waits for its client only so long.

    It waits until the head of a request is complete, from its beginning and after each answer, whatever
    arrives meanwhile; and while the client does not take an answer. The time for a request's body is
    :class:`vindr_det.serve.guards.Guard`'s.

    Attributes:
        limits: of all connections.
        waits_since: by the loop's clock; None while it does not wait for its client.
    """

    limits = Limits()
    waits_since: float | None = None
    _state: tuple[bool, bool] | None = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's
        """Take a place, of the connection that has waited longest if all are taken."""
        super().connection_made(transport)
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
            self.waits_since = self.loop.time()
            seconds = self.limits.answer_seconds if self.flow.write_paused else self.limits.head_seconds
            self._timer = self.loop.call_later(seconds, self.end)

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
