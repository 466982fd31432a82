"""Where the factory's API is and who asks: the address and the token, checked once, and what every request carries."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

import aiohttp

from batch_issuer import __version__
from batch_issuer.errors import RefusedError
from batch_issuer.factory_api.token import check_token

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Endpoint", "base_url"]

_DEFAULT_HEADER = "OSF-TOKEN"
_HEADER_VARIABLE = "TOKEN_HEADER"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
"""RFC 9110 section 5.6.2, `token`."""

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?(?P<path>/[A-Za-z0-9._~/-]*)?"
)
"""Less than RFC 3986 allows, so that no two parsers can read two hosts out of one address."""

_LAST_PORT = 65535
_SHOWN = 100
_REQUEST_SECONDS = 30
_CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A factory API, ready to be asked.

    Attributes:
        url: the base address, without a slash at its end.
        token: the secret. Not shown by repr.
        header: the header that carries it: `OSF-TOKEN`, or what the variable `TOKEN_HEADER` says, as for fioctl.
        trust: for https, whose certificates are trusted; None for http.
    """

    url: str
    token: str = field(repr=False)
    header: str
    trust: ssl.SSLContext | None = field(repr=False, compare=False)

    @classmethod
    def of(cls, url: str, token: str, *, ca_file: Path | None = None) -> Endpoint:
        """Check an address and a token.

        Args:
            url: `https://HOST[:PORT][/PATH]`; `http` for loopback only, as the token must not travel in the clear.
            token: printable ASCII without spaces.
            ca_file: PEM certificates to trust instead of the system's.

        Raises:
            RefusedError: one of them is not fit, or `ca_file` cannot be read.
        """
        url = base_url(url)
        check_token(token)
        header = os.environ.get(_HEADER_VARIABLE) or _DEFAULT_HEADER
        if not _HEADER_NAME.fullmatch(header):
            raise RefusedError(f"${_HEADER_VARIABLE} must be the name of an HTTP header, got {header[:_SHOWN]!r}")
        return cls(url, token, header, _trust(ca_file) if url.startswith("https:") else None)

    def session(self, *, connections: int = 1) -> aiohttp.ClientSession:
        """A new session, to be closed by the caller: token and User-Agent in every request, no cookies, no proxies.

        Args:
            connections: at most so many at a time.
        """
        return aiohttp.ClientSession(
            headers={
                self.header: self.token,
                "User-Agent": f"batch-issuer/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            connector=aiohttp.TCPConnector(limit=connections, ssl=self.trust or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS),
            auto_decompress=False,
        )


def base_url(url: str) -> str:
    """The address of an API without a slash at its end.

    Raises:
        RefusedError: it is not `https://HOST[:PORT][/PATH]`, or `http` to another machine.
    """
    match = _URL.fullmatch(url)
    if match is None or int(match["port"] or 0) > _LAST_PORT:
        raise RefusedError(
            f"the address of the factory's API must be https://HOST[:PORT][/PATH] and no more, got {_shown(url)!r}",
            hint="such as https://api.foundries.io",
        )
    if match["scheme"] == "http" and not _is_loopback(match["host"]):
        raise RefusedError(
            f"the address of the factory's API is {_shown(url)!r}: the token would travel in the clear",
            hint="use https; http is for this machine alone, such as http://127.0.0.1:8080",
        )
    return url.rstrip("/")


def _shown(url: str) -> str:
    """The address without what may be secret in it: user, password, query, fragment."""
    return re.sub(r"[?#].*", "?…", re.sub(r"//.*@", "//…@", url, flags=re.DOTALL), flags=re.DOTALL)[:_SHOWN]


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise RefusedError(f"{ca_file} holds no certificate in PEM") from None
    except OSError as error:
        raise RefusedError(f"{ca_file} cannot be read: {error.strerror}") from None
