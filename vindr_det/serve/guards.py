"""What every request passes: checks of its host and origin, limits on uploads, and headers of each answer."""

import asyncio
import ipaddress
import json
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
           "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
_HEADERS = {
    "content-security-policy": _POLICY, "x-content-type-options": "nosniff", "x-frame-options": "DENY",
    "referrer-policy": "no-referrer", "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()"}
_RETRY_SECONDS = 2


@dataclass(frozen=True)
class Limits:
    """Of what the service takes.

    Attributes:
        upload_bytes: of a request's body.
        upload_seconds: until a body has arrived.
        queue: requests with an upload at a time; others are told to come later.
        connections: at a time; a further one takes the place of the one that has waited longest for its
            client.
        head_seconds: until the head of a request is complete.
        answer_seconds: that a client may take nothing of what lies ready for it.
    """

    upload_bytes: int = 256 * 2**20
    upload_seconds: float = 30.0
    queue: int = 32
    connections: int = 256
    head_seconds: float = 10.0
    answer_seconds: float = 60.0


class Guard:
    """The application behind the checks.

    Args:
        app: answers requests that pass.
        limits: on uploads.
        names: of this host, beside ``localhost`` and addresses; another one may be an attempt of a page
            elsewhere to reach the service (DNS rebinding).

    Attributes:
        busy: uploads that are received or answered now.
    """

    def __init__(self, app: App, limits: Limits, names: Collection[str] = ()) -> None:
        self.app, self.limits = app, limits
        self.names, self.busy = {"localhost", *(name.lower() for name in names)}, 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        send = _with_headers(send)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if scope["method"] == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        refusal = self._refusal(headers) or (scope["method"] == "POST" and self._too_much(headers))
        if refusal:
            await _refuse(send, *refusal)
        elif scope["method"] == "POST":
            await self._upload(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, headers: dict[str, str]) -> tuple[int, str] | None:
        if "transfer-encoding" in headers and "content-length" in headers:  # RFC 9112 6.1
            return 400, "the request has a Transfer-Encoding and a Content-Length"
        host = headers.get("host", "")
        if not self._is_own(host):
            return 421, "the request names another host; see --name"
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return 403, "requests from other sites are refused"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and \
                headers.get("sec-fetch-mode") != "navigate":
            return 403, "requests from other sites are refused"
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a Host header is a name of this host, or an address, which no other page can take."""
        name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.lower() in self.names
        return True

    def _too_much(self, headers: dict[str, str]) -> tuple[int, str] | None:
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.limits.upload_bytes:
            return 413, f"expected an upload of at most {self.limits.upload_bytes:,} bytes"
        if self.busy >= self.limits.queue:
            return 503, f"{self.limits.queue} requests wait already; try again later"
        return None

    async def _upload(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request within the limits; its place is free as soon as there is an answer to send."""
        place = _Place(self)

        async def send_and_leave(message: Message) -> None:
            place.leave()
            await send(message)

        try:
            await self.app(scope, _limited(receive, self.limits), send_and_leave)
        finally:
            place.leave()


class _Place:
    """A place in the queue."""

    def __init__(self, guard: Guard) -> None:
        self._guard, self._taken = guard, True
        guard.busy += 1

    def leave(self) -> None:
        """Free it, if it is not free yet."""
        self._guard.busy -= self._taken
        self._taken = False


def _limited(receive: Receive, limits: Limits) -> Receive:
    """``receive``, which refuses a body that is too large or too slow, whatever its headers say."""
    from fastapi import HTTPException

    loop = asyncio.get_running_loop()
    end, left, arrived = loop.time() + limits.upload_seconds, limits.upload_bytes, False

    async def receive_some() -> Message:
        nonlocal left, arrived
        if arrived:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), end - loop.time())
        except asyncio.TimeoutError:
            expected = f"expected the upload within {limits.upload_seconds:g} seconds"
            raise HTTPException(408, expected) from None
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"expected an upload of at most {limits.upload_bytes:,} bytes")
        arrived = not message.get("more_body", False)
        return message

    return receive_some


def _with_headers(send: Send) -> Send:
    async def send_message(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await send(message)

    return send_message


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"retry-after", str(_RETRY_SECONDS).encode())] * (status == 503)
    headers += [(b"connection", b"close")] * (status == 400)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
