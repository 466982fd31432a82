"""The `sota.toml` of a device that registers: what the factory says, and what the device asks to have otherwise.

What a device asks for are raw TOML fragments, so each is read on its own and written anew: none can bring a line, a
section or a comment of its own. Every value is a string, since the Go readers fail on any other type.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_issuer.bundles.sota import SotaSettings, sota_toml
from batch_issuer.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["GATEWAY_PORT", "SotaWishes", "device_sota", "read_wishes"]

GATEWAY_PORT = 8443
"""Where devices find the device gateway and the ostree server."""

_DIRECTORY = "/var/sota"
_LONGEST = 1024
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and halves of characters, which UTF-8 cannot have."""


@dataclass(frozen=True, slots=True)
class SotaWishes:
    """What a device says of itself.

    Attributes:
        hardware_id: its primary ECU hardware id.
        directory: where it keeps its files, without a slash at the end.
        overrides: section to key to value; None leaves the key out, with a line that says so.
    """

    hardware_id: str
    directory: str = _DIRECTORY
    overrides: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)


def read_wishes(hardware_id: str, directory: str | None, overrides: object) -> SotaWishes:
    """A device's fields, checked.

    Args:
        hardware_id: `hardware-id`.
        directory: `sota-config-dir`; None for `/var/sota`.
        overrides: section to key to TOML fragment, as JSON has it; an empty fragment leaves the key out.

    Raises:
        RefusedError: one is not what it should be.
    """
    _check_text("hardware-id", hardware_id)
    directory = _DIRECTORY if directory is None else directory
    _check_text("sota-config-dir", directory)
    if not directory.startswith("/"):
        raise RefusedError(f"sota-config-dir must be an absolute path; it is {directory[:100]!r}")
    sections: dict[str, dict[str, str | None]] = {}
    # An empty tree is "" as lmp-device-register writes JSON.
    for section, values in _entries("overrides", overrides or {}):
        entries = _entries(f"overrides.{section}", values or {})
        sections[section] = {key: _value(f"overrides.{section}.{key}", value) for key, value in entries}
    return SotaWishes(hardware_id, directory.rstrip("/"), sections)


def device_sota(wishes: SotaWishes, hosts: Sequence[str]) -> str:
    """The device's file.

    Args:
        wishes: what the device said.
        hosts: DNS names of the device gateway and of the ostree server; one serves for both.
    """
    gateway, ostree = (f"{host}:{GATEWAY_PORT}" for host in (hosts[0], hosts[-1 if len(hosts) == 1 else 1]))
    factory = sota_toml(SotaSettings(gateway, ostree), hardware_id=wishes.hardware_id)
    sections: dict[str, dict[str, str | None]] = {
        section: {key: _moved(value, wishes.directory) for key, value in values.items()}
        for section, values in tomllib.loads(factory.decode()).items()
    }
    for section, values in wishes.overrides.items():
        sections.setdefault(section, {}).update(values)
    return "\n".join(_section(name, values) for name, values in sections.items())


def _moved(value: str, directory: str) -> str:
    """A path of the factory's file, in the device's own folder."""
    inside = value.startswith(f"{_DIRECTORY}/")
    return directory + value.removeprefix(_DIRECTORY) if inside else value


def _section(name: str, values: Mapping[str, str | None]) -> str:
    # A JSON string of text without control characters is a TOML basic string (TOML 1.0 section "String").
    lines = [
        f"# {key} is not set\n" if value is None else f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in values.items()
    ]
    return f"[{name}]\n" + "".join(lines)


def _entries(what: str, values: object) -> list[tuple[str, Any]]:
    if not isinstance(values, dict):
        raise RefusedError(f"{what} must be a JSON object; it is another value")
    for key in values:
        if not _BARE_KEY.fullmatch(key):
            raise RefusedError(f"{what} must have names of 1 to 64 letters, digits, - and _; it has {key[:100]!r}")
    return list(values.items())


def _value(what: str, fragment: object) -> str | None:
    if fragment is None or fragment == "":
        return None
    if not isinstance(fragment, str) or len(fragment) > _LONGEST:
        raise RefusedError(f"{what} must be a TOML string of at most {_LONGEST} characters; it is not")
    try:
        document = tomllib.loads(f"value = {fragment}")
    except (ValueError, RecursionError):
        document = {}
    value = document.get("value")
    if document.keys() != {"value"} or not isinstance(value, str):
        raise RefusedError(f"{what} must be one TOML string, quotes included; it is {fragment[:100]!r}")
    if value:
        _check_text(what, value)
    return value


def _check_text(what: str, text: str) -> None:
    if not 1 <= len(text) <= _LONGEST or _UNFIT.search(text):
        raise RefusedError(f"{what} must be text of 1 to {_LONGEST} characters without control characters; it is not")
