"""Where devices will connect to: the hosts of `sota.toml`, from options or from the gateway's certificate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_issuer.bundles.sota import SotaSettings
from batch_issuer.errors import RefusedError
from batch_issuer.manifest.columns import shorten
from batch_issuer.manifest.rows import LONGEST_SOTA_TEXT

if TYPE_CHECKING:
    from batch_issuer.batch.request import RunRequest

__all__ = ["choose_hosts"]

DEFAULT_PORT = 8443
_HIGHEST_PORT = 65535
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and what stands for octets that are not UTF-8 (PEP 383)."""

_HOST = re.compile(
    r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
)


def choose_hosts(
    request: RunRequest, certified: tuple[str, ...], *, has_hardware_column: bool
) -> tuple[SotaSettings | None, list[str]]:
    """The run's settings for `sota.toml`, None when it cannot be made; and sentences for the user.

    Args:
        request: the options.
        certified: the DNS names of `tls-crt`, the gateway's first and the ostree server's second; one serves for both.
        has_hardware_column: whether the manifest may name hardware ids.

    Raises:
        RefusedError: a host is none.
    """
    _check_text("--hardware-id", request.hardware_id, least=1)
    _check_text("--tag", request.tag)
    gateway = next(iter(certified), None) if request.gateway is None else request.gateway
    if gateway is None:
        return None, ["no gateway host is known (no tls-crt, no --gateway): bundles get no sota.toml"]
    if request.hardware_id is None and not has_hardware_column:
        return None, ["no hardware id is known (no --hardware-id, no such column): bundles get no sota.toml"]
    ostree = request.ostree
    if ostree is None:
        ostree = gateway if request.gateway is not None else certified[-1 if len(certified) == 1 else 1]
    settings = SotaSettings(
        _with_port("--gateway", gateway), _with_port("--ostree", ostree), request.hardware_id, request.tag
    )
    return settings, []


def _check_text(option: str, text: str | None, *, least: int = 0) -> None:
    """What a row's text must be, for a text that stands in for it."""
    if text is None:
        return
    fits = least <= len(text.encode(errors="surrogateescape")) <= LONGEST_SOTA_TEXT
    if not fits or _UNFIT.search(text):
        raise RefusedError(
            f"{option}: expected text of at most {LONGEST_SOTA_TEXT} octets without control characters, "
            f"got '{shorten(text)}'"
        )


def _with_port(option: str, text: str) -> str:
    match = _HOST.fullmatch(text)
    if match is None or int(match["port"] or DEFAULT_PORT) not in range(1, _HIGHEST_PORT + 1):
        raise RefusedError(f"{option}: expected HOST or HOST:PORT, got {text!r}")
    return f"{match['host']}:{match['port'] or DEFAULT_PORT}"
