"""Where devices will connect to: the hosts of `sota.toml`, from options or from the gateway's certificate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_issuer.bundles.format import PASSWORD_FORMAT
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
        RefusedError: a host is none, a text does not fit, or there is no `sota.toml` to say what --device-hsm says.
    """
    _check_text("--hardware-id", request.hardware_id, least=1)
    _check_text("--tag", request.tag)
    _check_device_hsm(request)
    if request.format == PASSWORD_FORMAT:
        return _without_sota(request, "a PKCS#12 file is for import into other software")
    gateway = next(iter(certified), None) if request.gateway is None else request.gateway
    if gateway is None:
        return _without_sota(request, "no gateway host is known (no tls-crt, no --gateway)")
    if request.hardware_id is None and not has_hardware_column:
        return _without_sota(request, "no hardware id is known (no --hardware-id, no such column)")
    ostree = request.ostree
    if ostree is None:
        ostree = gateway if request.gateway is not None else certified[-1 if len(certified) == 1 else 1]
    settings = SotaSettings(
        _with_port("--gateway", gateway),
        _with_port("--ostree", ostree),
        request.hardware_id,
        request.tag,
        request.device_hsm_module,
    )
    return settings, []


def _without_sota(request: RunRequest, why: str) -> tuple[None, list[str]]:
    if request.device_hsm:
        raise RefusedError(
            f"--device-hsm says what stands in sota.toml, and bundles get none: {why}",
            hint="give what is missing, or leave out --device-hsm",
        )
    return None, [f"{why}: bundles get no sota.toml"]


def _check_device_hsm(request: RunRequest) -> None:
    module = request.device_hsm_module
    if request.device_hsm != (module is not None):
        raise RefusedError(
            "--device-hsm and --device-hsm-module need each other, and only one of them is given",
            hint="--device-hsm-module is the PKCS#11 module's path on the device, such as /usr/lib/libckteec.so.0",
        )
    _check_text("--device-hsm-module", module)
    if module is not None and not module.startswith("/"):
        raise RefusedError(
            f"--device-hsm-module: expected the module's absolute path on the device, got '{shorten(module)}'"
        )


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
