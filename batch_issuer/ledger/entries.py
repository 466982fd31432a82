"""What goes into the ledger, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Entry", "Found", "IssuedPart", "LedgerRun", "ReservedPart"]


class LedgerRun(NamedTuple):
    """One run.

    Attributes:
        id: 32 hex digits; `run.json` has them too.
        out: its output folder, absolute.
        manifest: the manifest's file name.
        manifest_sha256: of its octets, hex.
        factory: the organizational unit.
        ca_name: the device CA's name in the PKI directory.
        ca_serial: its certificate's serial number, big-endian.
        ca_key_identifier: its subjectKeyIdentifier, None if it has none.
        not_before: of every certificate, UTC, as `2026-11-23T16:00:00Z`.
        not_after: the same.
        began: when it was planned, the same.
    """

    id: str
    out: str
    manifest: str
    manifest_sha256: str
    factory: str
    ca_name: str
    ca_serial: bytes
    ca_key_identifier: bytes | None
    not_before: str
    not_after: str
    began: str


class ReservedPart(NamedTuple):
    """A part of a run before it is issued; n is the number of its devices.

    Attributes:
        part: its place in the run.
        uuids: 16 n octets.
        production: n octets, 1 for a device of production and 0 for another.
    """

    part: int
    uuids: bytes
    production: bytes


class IssuedPart(NamedTuple):
    """A part of a run that is issued; n is the number of its devices.

    Attributes:
        part: its place in the run.
        uuids: 16 n octets; they must be those that the run holds.
        serials: 20 n octets.
        public_keys: SHA-256 of each SubjectPublicKeyInfo, 32 n octets.
    """

    part: int
    uuids: bytes
    serials: bytes
    public_keys: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger knows of some values, UUIDs or public keys.

    Attributes:
        values: those that it has, each once.
        runs: of each the number of the last run that has it, int64.
        held: the number of a run that has one of them and has not issued it yet; None if there is none.
    """

    values: pa.Array
    runs: pa.Array
    held: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One certificate of one device, or the place that an unfinished run holds for it.

    Attributes:
        device_uuid: text.
        serial_number: 40 hex digits; None before it is issued.
        public_key_sha256: of the SubjectPublicKeyInfo, hex; None before it is issued.
        production: whether the subject says businessCategory=production.
        issued: when its part was recorded, UTC; None before.
        run: its run's id.
        out: its run's output folder.
        factory: the organizational unit.
        ca_name: the device CA's name in the PKI directory.
        ca_serial: its serial number, hex.
        ca_key_identifier: its subjectKeyIdentifier, hex, None if it has none.
        not_before: UTC.
        not_after: UTC.
    """

    device_uuid: str
    serial_number: str | None
    public_key_sha256: str | None
    production: bool
    issued: str | None
    run: str
    out: str
    factory: str
    ca_name: str
    ca_serial: str
    ca_key_identifier: str | None
    not_before: str
    not_after: str
