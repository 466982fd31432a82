"""Checks `sota.toml`: every value that a device of this run must have, all of them strings, and nothing else."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from batch_issuer.verification.finding import Fault
from batch_issuer.verification.readable import shown_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SotaChecker"]

_REMEMBERED = 1024
_PIN = "pass"
"""The key of `[p11]` for the token's PIN: nothing here may write it, and no message shows it."""


class SotaChecker:
    """Checks the files of one run; those that many devices share are read once.

    Args:
        gateway: the device gateway, host:port.
        ostree: the ostree server, host:port.
        device_hsm_module: the PKCS#11 module on devices with their key in an HSM of their own; None when it is a file.
    """

    def __init__(self, gateway: str, ostree: str, device_hsm_module: str | None = None) -> None:
        self._gateway = f"https://{gateway}"
        self._ostree = f"https://{ostree}/ostree"
        self._module = device_hsm_module
        self.faults = lru_cache(_REMEMBERED)(self._faults)

    def _faults(self, text: bytes, hardware_id: str | None, tag: str | None, apps: str | None) -> tuple[Fault, ...]:
        """What is wrong with a file.

        Args:
            text: its octets.
            hardware_id: what it must name.
            tag: the update tag; None or empty when there must be none.
            apps: the compose apps; None or empty when there must be none.
        """
        try:
            sections = tomllib.loads(text.decode())
        except ValueError as error:
            return (Fault("bundle-sota", f"sota.toml is not TOML in UTF-8: {error}"),)
        wanted = self._wanted(hardware_id, tag, apps)
        return tuple(Fault("bundle-sota", f"sota.toml: {difference}") for difference in _differences(sections, wanted))

    def _wanted(self, hardware_id: str | None, tag: str | None, apps: str | None) -> dict[str, dict[str, str | None]]:
        pacman: dict[str, str | None] = {
            "type": "ostree+compose_apps",
            "ostree_server": self._ostree,
            "compose_apps_root": "/var/sota/compose-apps",
            "reset_apps_root": "/var/sota/reset-apps",
        }
        if tag:
            pacman["tags"] = tag
        if apps:
            pacman["compose_apps"] = apps
        wanted: dict[str, dict[str, str | None]] = {
            "tls": {"server": self._gateway, "ca_source": "file", "pkey_source": "file", "cert_source": "file"},
            "provision": {"server": self._gateway, "primary_ecu_hardware_id": hardware_id},
            "uptane": {"repo_server": f"{self._gateway}/repo", "key_source": "file"},
            "pacman": pacman,
            "storage": {"type": "sqlite", "path": "/var/sota/"},
            "import": {
                "tls_cacert_path": "/var/sota/root.crt",
                "tls_pkey_path": "/var/sota/pkey.pem",
                "tls_clientcert_path": "/var/sota/client.pem",
            },
        }
        if self._module is not None:
            wanted["tls"] |= {"pkey_source": "pkcs11", "cert_source": "pkcs11"}
            wanted["import"] = {"tls_cacert_path": "/var/sota/root.crt"}
            identifiers = {"tls_pkey_id": "01", "tls_clientcert_id": "03"}
            wanted["p11"] = {"module": self._module, "label": "aktualizr", **identifiers}
        return wanted


def _differences(found: dict[str, Any], wanted: dict[str, dict[str, str | None]]) -> Iterator[str]:
    for section in found.keys() | wanted.keys():
        values = found.get(section, {})
        if not isinstance(values, dict) or section not in wanted:
            yield f"{shown_text(section)} does not belong there"
            continue
        for key in values.keys() | wanted[section].keys():
            value, expected = values.get(key), wanted[section].get(key)
            if value != expected or not isinstance(value, str):
                told = "nothing" if value is None else "a PIN" if key == _PIN else shown_text(str(value))
                yield f"{section}.{shown_text(key)} is {told}, expected {expected!r}"
