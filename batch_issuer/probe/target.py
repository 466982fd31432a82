"""Which gateway is probed: where it is, and the name that it must prove."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from batch_issuer.errors import BatchIssuerError, RefusedError

if TYPE_CHECKING:
    from batch_issuer.output.record import RunRecord

__all__ = ["Target", "addresses_of", "choose_target"]

_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*", re.ASCII)
"""Labels of at most 63 octets (RFC 1035 section 2.3.4); what is no name would be an error of the codec `idna` later."""


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway.

    Attributes:
        host: DNS name or IP address to connect to, without brackets.
        port: TCP.
        server_name: what its certificate must be for: the name that the devices use.
    """

    host: str
    port: int
    server_name: str

    @property
    def place(self) -> str:
        """Host and port as they are written."""
        return f"{_bracketed(self.host)}:{self.port}"

    @property
    def authority(self) -> str:
        """What a device's requests call it (the Host of RFC 9110 section 7.2)."""
        return f"{_bracketed(self.server_name)}:{self.port}"


def choose_target(record: RunRecord, gateway: str | None, server_name: str | None) -> Target:
    """The gateway that the run's devices use, unless another one is named.

    Args:
        record: what was asked of the run.
        gateway: HOST:PORT to connect to instead; the name to be proven stays the run's.
        server_name: the name to be proven instead.

    Raises:
        RefusedError: one of them cannot be, or there is none.
    """
    if gateway is None and record.gateway is None:
        raise RefusedError("the run names no gateway: its bundles have no sota.toml", hint="--gateway HOST:PORT")
    own = None if record.gateway is None else _host_and_port("the gateway of run.json", record.gateway)
    host, port = own if gateway is None and own is not None else _host_and_port("--gateway", gateway or "")
    if server_name is not None and not _is_host(server_name):
        raise RefusedError(f"--server-name: expected a DNS name or an IP address, got {server_name!r}")
    return Target(host, port, server_name or (own or (host, port))[0])


async def addresses_of(target: Target) -> list[str]:
    """The target's IP addresses, asked for once and not per device.

    Raises:
        BatchIssuerError: its name cannot be resolved.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BatchIssuerError(
            f"the gateway's name {target.host!r} cannot be resolved: {error.strerror}",
            hint="--gateway HOST:PORT says where to connect, whatever name the gateway's certificate has",
        ) from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _host_and_port(what: str, text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != text or "@" in text or not _is_host(host):
        raise RefusedError(f"{what}: expected HOST:PORT, got {text!r}")
    return host, port


def _is_host(text: str) -> bool:
    try:
        return bool(_NAME.fullmatch(text)) or (bool(ip_address(text)) and "%" not in text)
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
