"""`run.json`: what was asked of a run, fixed before its first key and compared when it is resumed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batch_issuer.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RunRecord", "format_time", "parse_time", "read_record"]

_FORMAT_VERSION = 1
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What was asked; no secret.

    Attributes:
        version: of the program that began the run.
        manifest: the manifest's file name, `-` for standard input.
        manifest_sha256: of the manifest's octets, hex.
        manifest_kind: `csv` or `parquet`.
        rows: data rows in the manifest.
        accepted: rows to be issued.
        csr_rows: of these, rows that bring a CSR: their devices keep their keys.
        skip_rejects: whether the run goes on without rejected rows.
        factory: the organizational unit.
        ca_name: the device CA's name in the PKI directory.
        ca_certificate: its certificate, PEM.
        root_certificate: the root's, PEM.
        ledger_run: the run's id in the ledger; None for a run without one.
        reissue: whether devices may be issued that an earlier run in the ledger has issued.
        signer: who signs SHA256SUMS, by the name in the PKI directory; None for nobody.
        signer_certificate: its certificate, PEM.
        format: how bundles are stored.
        p12_passwords: of format p12, `run` when all bundles have the one password that was given, `device` when one was
            made for each; None for other formats. Never a password itself, nor what could be used to guess it.
        seal_to: age recipients that each part is encrypted to, sorted; empty when parts are not sealed.
        part_size: devices per part.
        days: validity asked for.
        backdate: seconds that notBefore was asked to lie back.
        not_before: UTC, as `2026-11-23T16:00:00Z`.
        not_after: the same.
        production: whether every device is one of production, unless its row says otherwise.
        gateway: host:port in `sota.toml`, None when no `sota.toml` is made.
        ostree: the same.
        hardware_id: for rows that name none.
        tag: for rows that name none.
        device_hsm_module: the PKCS#11 module's path in `sota.toml`, for devices whose key is in an HSM of their own;
            None when keys are files.
        manifest_format: of the output manifest, `csv` or `parquet`.
        with_certificates: whether it has a column `certificate_pem`.
        spreadsheet_safe: whether its CSV neutralises cells that a spreadsheet would run.
    """

    version: str
    manifest: str
    manifest_sha256: str
    manifest_kind: str
    rows: int
    accepted: int
    csr_rows: int
    skip_rejects: bool
    factory: str
    ca_name: str
    ca_certificate: str
    root_certificate: str
    ledger_run: str | None
    reissue: bool
    signer: str | None
    signer_certificate: str | None
    format: str
    p12_passwords: str | None
    seal_to: tuple[str, ...]
    part_size: int
    days: int
    backdate: int
    not_before: str
    not_after: str
    production: bool
    gateway: str | None
    ostree: str | None
    hardware_id: str | None
    tag: str | None
    device_hsm_module: str | None
    manifest_format: str
    with_certificates: bool
    spreadsheet_safe: bool

    @property
    def parts(self) -> int:
        """How many parts the accepted rows make."""
        return -(-self.accepted // self.part_size)

    def part_devices(self, index: int) -> int:
        """How many devices the part at `index` has."""
        return min(self.part_size, self.accepted - index * self.part_size)

    @property
    def makes_passwords(self) -> bool:
        """Whether a password is made for each device, and listed."""
        return self.p12_passwords == "device"

    @property
    def starts(self) -> datetime:
        """NotBefore as a moment, UTC."""
        return parse_time(self.not_before)

    @property
    def ends(self) -> datetime:
        """NotAfter as a moment, UTC."""
        return parse_time(self.not_after)

    def to_json(self) -> bytes:
        """The file's octets."""
        return (json.dumps({"format_version": _FORMAT_VERSION} | asdict(self), indent=2) + "\n").encode()


def format_time(moment: datetime) -> str:
    """A UTC moment as the record has it."""
    return moment.strftime(_TIME)


def parse_time(text: str) -> datetime:
    """A record's moment.

    Raises:
        ValueError: it is none.
    """
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def read_record(path: Path) -> RunRecord:
    """The record in a file.

    Raises:
        OutputError: there is none, it is damaged, or a newer program wrote it.
    """
    try:
        values = json.loads(path.read_bytes())
        version = values.pop("format_version")
        if version != _FORMAT_VERSION:
            raise OutputError(
                f"{path} has format version {version}, expected {_FORMAT_VERSION}",
                hint="use the version of batch-issuer that began this run",
            )
        values["seal_to"] = tuple(values["seal_to"])
        record = RunRecord(**values)
        _check_types(record)
    except (FileNotFoundError, NotADirectoryError):
        raise OutputError(f"{path.parent} holds no run: there is no run.json") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise OutputError(f"{path} is damaged: {error}", hint="restore it, or issue into a new folder") from None
    return record


def _check_types(record: RunRecord) -> None:
    kinds = {
        "str": (str,),
        "int": (int,),
        "bool": (bool,),
        "str | None": (str, type(None)),
        "tuple[str, ...]": (tuple,),
    }
    for field in fields(record):
        value = getattr(record, field.name)
        if type(value) not in kinds[str(field.type)]:
            raise ValueError(f"{field.name} is of the wrong type")
    if not all(type(recipient) is str for recipient in record.seal_to):
        raise ValueError("seal_to is of the wrong type")
    if record.part_size < 1 or not 0 <= record.csr_rows <= record.accepted <= record.rows:
        raise ValueError("its counts contradict each other")
    parse_time(record.not_before), parse_time(record.not_after)
