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
    """

    gateway: str
    ostree: str
    hardware_id: str | None = None
    tag: str | None = None


def sota_toml(settings: SotaSettings, *, hardware_id: str, tag: str | None = None, apps: str | None = None) -> bytes:
    """The file's UTF-8 text.

    Args:
        settings: the run's.
        hardware_id: the device's primary ECU hardware id.
        tag: the update tag; None or empty leaves it out.
        apps: comma-separated compose apps; None or empty leaves the choice to the target.
    """
    gateway = f"https://{settings.gateway}"
    pacman = {"type": "ostree+compose_apps", "ostree_server": f"https://{settings.ostree}/ostree"}
    if tag:
        pacman["tags"] = tag
    pacman |= {"compose_apps_root": "/var/sota/compose-apps", "reset_apps_root": "/var/sota/reset-apps"}
    if apps:
        pacman["compose_apps"] = apps
    sections = {
        "tls": {"server": gateway, "ca_source": "file", "pkey_source": "file", "cert_source": "file"},
        "provision": {"server": gateway, "primary_ecu_hardware_id": hardware_id},
        "uptane": {"repo_server": f"{gateway}/repo", "key_source": "file"},
        "pacman": pacman,
        "storage": {"type": "sqlite", "path": "/var/sota/"},
        "import": {
            "tls_cacert_path": "/var/sota/root.crt",
            "tls_pkey_path": "/var/sota/pkey.pem",
            "tls_clientcert_path": "/var/sota/client.pem",
        },
    }
    return "\n".join(_section(name, values) for name, values in sections.items()).encode()


def _section(name: str, values: dict[str, str]) -> str:
    # A JSON string of text without control characters is a TOML basic string (TOML 1.0 section "String").
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()]
    return f"[{name}]\n" + "".join(lines)
