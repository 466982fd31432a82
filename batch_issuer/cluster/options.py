"""Which cluster, and what is refused of it before anything is sent there."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.errors import RefusedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ClusterOptions", "check_options"]

_ADDRESS = re.compile(r"(?P<protocol>tcp|tls)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")
_TLS_OPTIONS = "--tls-ca-file, --tls-cert and --tls-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Which Dask cluster.

    Attributes:
        scheduler: its scheduler's address, `tls://HOST:PORT` or `tcp://HOST:PORT`; None for one of this run's own, on
            this machine, that ends with it.
        tls_ca_file: the certificates, PEM, that scheduler and workers are known by.
        tls_cert: this client's certificate, PEM.
        tls_key: its key, PEM.
        logs: whether Dask's own warnings are shown.
    """

    scheduler: str | None = None
    tls_ca_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    logs: bool = False

    @property
    def encrypted(self) -> bool:
        """Whether what goes to the workers is encrypted and both ends prove who they are."""
        return self.scheduler is None or self.scheduler.startswith("tls://")


def check_options(options: ClusterOptions) -> None:
    """A scheduler's address is one, and beyond this machine it is spoken to by TLS only.

    Whoever can speak to a scheduler can make its workers run any code, and see what they are sent.

    Raises:
        RefusedError: it is not so, or a TLS file is missing.
    """
    files = {
        "--tls-ca-file": options.tls_ca_file,
        "--tls-cert": options.tls_cert,
        "--tls-key": options.tls_key,
    }
    given = [path for path in files.values() if path is not None]
    if given and (options.scheduler is None or options.scheduler.startswith("tcp:")):
        raise RefusedError(f"{_TLS_OPTIONS} are for --scheduler tls://HOST:PORT")
    if options.scheduler is None:
        return
    match = _ADDRESS.fullmatch(options.scheduler)
    if match is None:
        raise RefusedError(f"--scheduler: expected tls://HOST:PORT or tcp://127.0.0.1:PORT, got {options.scheduler!r}")
    if match["protocol"] == "tcp":
        if not _is_loopback(match["host"].strip("[]")):
            raise RefusedError(
                f"--scheduler {options.scheduler} is another machine and not encrypted: beyond loopback it must be tls://",
                hint=f"start scheduler and workers with TLS, and give {_TLS_OPTIONS}",
            )
        return
    if len(given) < len(files):
        raise RefusedError(f"--scheduler {options.scheduler} needs {_TLS_OPTIONS}")
    for option, path in files.items():
        if path is not None and not path.is_file():
            raise RefusedError(f"{option}: {path} is not there")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
