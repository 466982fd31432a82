"""A run's devices as the API wants them, one after the other: row, UUID, certificate, name and group; never a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.issued import StoredCertificates, issued_devices

if TYPE_CHECKING:
    from collections.abc import Generator

    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord
    from batch_issuer.registering.journal import RegisteredRows

__all__ = ["Registrant", "registrants"]

_SKIPPED_AT_ONCE = 1000


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
    certificates = StoredCertificates(folder, record, identities, passwords)
    skipped = 0
    for device in issued_devices(folder, record):
        if not known.has(device.row, device.device_uuid):
            certificate = certificates.of(device)
            yield Registrant(device.row, device.device_uuid, certificate, device.name, device.group)
        elif (skipped := skipped + 1) == _SKIPPED_AT_ONCE:
            yield skipped
            skipped = 0
    yield skipped
