"""A run's devices as the API wants them, one after the other: row, UUID, certificate, name and group; never a key."""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from batch_issuer.bundles.contents import CERTIFICATE
from batch_issuer.bundles.sealed import readable_format
from batch_issuer.errors import BundleError, OutputError
from batch_issuer.output.folder import BUNDLES
from batch_issuer.output.manifest import placed_rows
from batch_issuer.output.rows import CERTIFICATE_COLUMN
from batch_issuer.output.spreadsheet import FORMULA

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from batch_issuer.bundles.contents import Bundle
    from batch_issuer.bundles.format import BundleFormat, PasswordOf
    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord
    from batch_issuer.registering.journal import RegisteredRows

__all__ = ["IssuedRow", "Registrant", "issued_devices", "registrants"]

_ROWS_AT_ONCE = 5000
_SKIPPED_AT_ONCE = 1000
_VERIFY = "`batch-issuer verify` tells what is wrong with this run"
_RESUME = "`batch-issuer issue --resume` puts what a killed run committed into place; then register again"
_READ = ("row", "device_uuid", "certificate_sha256", "bundle")
_PEM = re.compile(
    rb"\s*-----BEGIN CERTIFICATE-----\r?\n((?:[A-Za-z0-9+/=]+\r?\n)+)-----END CERTIFICATE-----\s*", re.ASCII
)


class IssuedRow(NamedTuple):
    """One row of the output manifest.

    Attributes:
        row: 1-based data row of the input.
        device_uuid: in lower case.
        certificate_sha256: of its certificate's DER, hex.
        location: its bundle's place below the bundles folder.
        name: its name, None if it has none.
        group: its device group, None if it has none.
        certificate: PEM, None if the manifest has no certificates.
    """

    row: int
    device_uuid: str
    certificate_sha256: str
    location: str
    name: str | None
    group: str | None
    certificate: str | None


@dataclass(frozen=True, slots=True)
class Registrant:
    """A device, ready to be registered.

    Attributes:
        row: 1-based data row of the input.
        device_uuid: in lower case.
        certificate: PEM, one block.
        name: its name, None if it has none.
        group: its device group, None if it has none.
    """

    row: int
    device_uuid: str
    certificate: str
    name: str | None
    group: str | None


def issued_devices(folder: OutputFolder, record: RunRecord) -> Iterator[IssuedRow]:
    """What was issued, in the manifest's order; some thousands of rows are in memory at a time.

    Raises:
        OutputError: the manifest or a commit record is missing, damaged, or leads out of the bundles folder.
    """
    finished = folder.summary.exists()
    neutralised = finished and record.spreadsheet_safe and record.manifest_format == "csv"
    for table in placed_rows(folder, record, also=("name", "group", CERTIFICATE_COLUMN)):
        columns = [*_READ, *(name for name in ("name", "group", CERTIFICATE_COLUMN) if name in table.column_names)]
        for start in range(0, len(table), _ROWS_AT_ONCE):
            for values in table.select(columns).slice(start, _ROWS_AT_ONCE).to_pylist():
                yield _row(values, rows=record.rows, neutralised=neutralised)


def registrants(
    folder: OutputFolder,
    record: RunRecord,
    known: RegisteredRows,
    identities: AgeIdentities | None = None,
    passwords: PasswordOf | None = None,
) -> Generator[Registrant | int, None, None]:
    """The devices that are to be registered, in the manifest's order; among them numbers: so many were passed over.

    A number comes after some thousand devices at the latest, so that whoever iterates can attend to other things.

    Args:
        folder: the run's.
        record: what was asked.
        known: which devices the API has.
        identities: what opens sealed bundles, where the manifest has no certificates.
        passwords: opens bundles, where that takes passwords.

    Raises:
        OutputError: the manifest is missing or damaged, or contradicts what is known.
        BundleError: a certificate cannot be read, or is another than the manifest says.
    """
    certificates = _Certificates(folder, record, identities, passwords)
    skipped = 0
    for device in issued_devices(folder, record):
        if not known.has(device.row, device.device_uuid):
            certificate = certificates.of(device)
            yield Registrant(device.row, device.device_uuid, certificate, device.name, device.group)
        elif (skipped := skipped + 1) == _SKIPPED_AT_ONCE:
            yield skipped
            skipped = 0
    yield skipped


def _row(values: dict[str, object], *, rows: int, neutralised: bool) -> IssuedRow:
    row, uuid, digest, bundle = (values[name] for name in _READ)
    location = str(bundle).removeprefix(f"{BUNDLES}/")
    if not isinstance(row, int) or not 1 <= row <= rows:
        raise OutputError(f"the output manifest has a row that cannot be: row {row!r}, device {uuid!r}")
    name, group = (_text(values.get(column), neutralised=neutralised) for column in ("name", "group"))
    certificate = _text(values.get(CERTIFICATE_COLUMN))
    return IssuedRow(row, str(uuid), str(digest), location, name, group, certificate)


def _text(value: object, *, neutralised: bool = False) -> str | None:
    text = "" if value is None else str(value)
    if neutralised and text.startswith("'") and re.match(FORMULA, text):
        text = text[1:]  # the apostrophe that keeps a spreadsheet from running it
    return text or None


class _Certificates:
    """The certificates of a run's devices, asked for in the manifest's order: the file of a part is read once.

    Bundles have private keys as well; of what is read only the certificate is kept.
    """

    def __init__(
        self,
        folder: OutputFolder,
        record: RunRecord,
        identities: AgeIdentities | None,
        passwords: PasswordOf | None,
    ) -> None:
        self._folder = folder
        self._record = record
        self._opened_by = (identities, passwords)
        self._hint = _VERIFY if folder.summary.exists() else _RESUME
        self._location = ""
        self._bundles: Iterator[Bundle] = iter(())

    def of(self, device: IssuedRow) -> str:
        """A device's certificate, PEM: from the manifest if that has it, else from its bundle.

        Raises:
            BundleError: its bundle cannot be read, or the certificate is another than the manifest says.
        """
        text = device.certificate.encode() if device.certificate is not None else self._stored_certificate(device)
        block = _PEM.fullmatch(text)
        try:
            der = binascii.a2b_base64(block[1]) if block else b""
        except binascii.Error:
            der = b""
        if hashlib.sha256(der).hexdigest() != device.certificate_sha256:
            raise BundleError(
                f"the certificate of {device.device_uuid} is not the one that the output manifest says",
                hint=self._hint,
            )
        return text.decode()

    @cached_property
    def _stored(self) -> BundleFormat:
        return readable_format(self._record.format, self._record.seal_to, *self._opened_by)

    def _stored_certificate(self, device: IssuedRow) -> bytes:
        if device.location != self._location:
            self._bundles = self._stored.read(self._folder.bundles, device.location)
            self._location = device.location
        try:
            for bundle in self._bundles:
                if bundle.device_uuid == device.device_uuid:
                    return bundle.files.get(CERTIFICATE, b"")
        except BundleError as error:
            raise BundleError(str(error), hint=self._hint) from None
        wrong = f"{BUNDLES}/{device.location} has no bundle of {device.device_uuid} where the output manifest has it"
        raise BundleError(wrong, hint=self._hint)
