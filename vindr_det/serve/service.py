"""The web service, until it is ended."""

import logging
import socket
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vindr_det.exceptions import InputError
from vindr_det.limits import MAX_PIXELS, require_limit
from vindr_det.serve.guards import Limits
from vindr_det.serve.libraries import require_libraries

if TYPE_CHECKING:
    from uvicorn import Server

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
_DAY_SECONDS = 86_400

@dataclass(frozen=True)
class Settings:
    """Of the service.

    Attributes:
        host: the address to listen on.
        port: 0 takes a free one.
        names: of this host, as of :class:`vindr_det.serve.guards.Guard`.
        limits: on uploads.
        max_pixels: larger images are refused.
        read_seconds: for reading an image, 1 to 86,400; one that takes longer is refused.
    """

    host: str = LOOPBACK
    port: int = 8000
    names: Collection[str] = ()
    limits: Limits = field(default_factory=Limits)
    max_pixels: int = MAX_PIXELS
    read_seconds: float = 20.0


def serve(place: str | Path, device: str = "auto", settings: Settings | None = None) -> None:
    """Answer requests until SIGTERM or Ctrl-C, which wait for the answers that are being made.

    Args:
        place: of the bundle.
        device: where the models run.
        settings: of the service; None takes the defaults.

    Raises:
        InputError: a missing library, a setting out of range, no such bundle, or the address cannot be taken.
    """
    require_libraries()
    settings = settings or Settings()
    _require(settings)
    from vindr_det.bundle import read_bundle
    from vindr_det.serve.answers import Answerer
    from vindr_det.serve.app import make_app

    with _listening(settings) as listener:
        bundle = read_bundle(place, device)
        answerer = Answerer(bundle.models, settings.max_pixels, settings.read_seconds)
        answerer.warm_up()
        app = make_app(bundle, answerer, settings.limits, [*settings.names, settings.host])
        _say_address(settings, listener.getsockname()[1])
        server_of(app, settings.limits).run([listener])


def _require(settings: Settings) -> None:
    require_limit(settings.max_pixels)
    limits = settings.limits
    for name, value in (("--max-upload", limits.upload_bytes),
                        ("--queue", limits.queue)):
        if not value > 0:
            raise InputError(f"{name} {value}: expected more than 0")
    for name, seconds in (("--upload-seconds", limits.upload_seconds),
                          ("--read-seconds", settings.read_seconds)):
        if not 1 <= seconds <= _DAY_SECONDS:
            raise InputError(f"{name} {seconds:g}: expected 1 to {_DAY_SECONDS} seconds")
    if not 0 <= settings.port <= 65535:
        raise InputError(f"--port {settings.port}: expected 0 to 65535")


def _listening(settings: Settings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port),
                                    family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    except OSError as error:
        raise InputError(f"--host {settings.host} --port {settings.port}: cannot be listened on "
                         f"({error.strerror or error})") from error


def _say_address(settings: Settings, port: int) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    if not _is_loopback(settings.host):
        log.warning("%s can be reached by other machines: there is no login, and no encryption. Put a server "
                    "with both before it, or leave --host out", settings.host)
    print(f"http://{host}:{port}", flush=True)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def server_of(app: Any, limits: Limits) -> "Server":
    """The server of an application, without a log of requests.

    Args:
        app: of :func:`vindr_det.serve.app.make_app`.
        limits: of its connections.
    """
    import uvicorn

    from vindr_det.serve.connections import connection_of

    return uvicorn.Server(uvicorn.Config(
        app, access_log=False, log_config=None, log_level="warning", server_header=False, lifespan="off",
        ws="none", http=connection_of(limits), h11_max_incomplete_event_size=16384, timeout_keep_alive=5,
        timeout_graceful_shutdown=30, limit_concurrency=limits.connections + 1))
