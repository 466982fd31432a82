"""`sota.toml`: how a device finds its gateway, for aktualizr-lite, fioconfig and fioup at once.

Every value is a string: the Go readers fail on any other TOML type.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["SotaSettings", "sota_toml"]


@dataclass(frozen=True, slots=True)
class SotaSettings:
    """What a run's `sota.toml` files have in common.

    Attributes:
        gateway: the device gateway, host:port.
        ostree: the ostree server, host:port.
        hardware_id: for devices whose row names none; None when every row must.
        tag: the update tag for devices whose row names none; None for none.
        device_hsm_module: the PKCS#11 module's path on devices that have their key and certificate in an HSM of their
            own; None when these are files.
    """

    gateway: str
    ostree: str
    hardware_id: str | None = None
    tag: str | None = None
    device_hsm_module: str | None = None


def sota_toml(settings: SotaSettings, *, hardware_id: str, tag: str | None = None, apps: str | None = None) -> bytes:
    """The file's UTF-8 text.

    For a device's HSM it has what lmp-device-register writes (key object 01, certificate object 03, the token's label),
    but for the PIN: that is the device's, and it never comes here.

    Args:
        settings: the run's.
        hardware_id: the device's primary ECU hardware id.
        tag: the update tag; None or empty leaves it out.
        apps: comma-separated compose apps; None or empty leaves the choice to the target.
    """
    gateway = f"https://{settings.gateway}"
    pacman: dict[str, str | None] = {
        "type": "ostree+compose_apps",
        "ostree_server": f"https://{settings.ostree}/ostree",
    }
    if tag:
        pacman["tags"] = tag
    pacman |= {"compose_apps_root": "/var/sota/compose-apps", "reset_apps_root": "/var/sota/reset-apps"}
    if apps:
        pacman["compose_apps"] = apps
    module = settings.device_hsm_module
    source = "file" if module is None else "pkcs11"
    sections: dict[str, dict[str, str | None]] = {
        "tls": {"server": gateway, "ca_source": "file", "pkey_source": source, "cert_source": source},
        "provision": {"server": gateway, "primary_ecu_hardware_id": hardware_id},
        "uptane": {"repo_server": f"{gateway}/repo", "key_source": "file"},
        "pacman": pacman,
        "storage": {"type": "sqlite", "path": "/var/sota/"},
        "import": {
            "tls_cacert_path": "/var/sota/root.crt",
            "tls_pkey_path": "/var/sota/pkey.pem" if module is None else None,
            "tls_clientcert_path": "/var/sota/client.pem" if module is None else None,
        },
    }
    if module is not None:
        sections["p11"] = {"module": module, "label": "aktualizr", "tls_pkey_id": "01", "tls_clientcert_id": "03"}
    return "\n".join(_section(name, values) for name, values in sections.items()).encode()


def _section(name: str, values: dict[str, str | None]) -> str:
    return f"[{name}]\n" + "".join(_line(key, value) for key, value in values.items())


def _line(key: str, value: str | None) -> str:
    if value is None:
        return f"# {key} is not set\n"
    # A JSON string of text without control characters is a TOML basic string (TOML 1.0 section "String").
    return f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
