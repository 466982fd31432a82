"""The addresses of the servers: taken before anything else is done, answered later."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Sockets", "bound", "url"]


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets, bound and not yet listening.

    Attributes:
        api: of the API.
        gateway: of the device gateway.
        loopback: whether nobody but this machine can reach them.
    """

    api: socket.socket
    gateway: socket.socket
    loopback: bool


@contextmanager
def bound(host: str, *, api_port: int, gateway_port: int) -> Iterator[Sockets]:
    """Both addresses, while the block runs.

    Args:
        host: a name or an address of this machine.
        api_port: 0 for any that is free.
        gateway_port: likewise.

    Raises:
        RefusedError: an address cannot be had.
    """
    try:
        [family, _, _, _, address], *_ = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise RefusedError(f"--host must be a name or an address of this machine; {host!r} is none") from None
    with socket.socket(family) as api, socket.socket(family) as gateway:
        for sock, port, option in ((api, api_port, "--api-port"), (gateway, gateway_port, "--gateway-port")):
            # A server that has just ended must not keep the next one off its port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address[0], port))
                # While both are only bound, Linux would give the port to a second server that sets the option, too.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            except OSError as error:
                where = f"{host}, port {port}"
                raise RefusedError(f"{where} cannot be had: {error.strerror}", hint=f"{option} 0 is any free") from None
        yield Sockets(api, gateway, ipaddress.ip_address(str(address[0])).is_loopback)


def url(scheme: str, sock: socket.socket) -> str:
    """Where it is, for clients."""
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{scheme}://{host}:{port}"
