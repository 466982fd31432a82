"""What all devices of a run are checked against, in a form that travels to the workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.output.record import RunRecord
    from batch_issuer.verification.anchors import Anchors

__all__ = ["RunFacts"]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What every device of a run is checked against.

    Attributes:
        out: the output folder.
        format: how bundles are stored.
        seal_to: whom for parts are sealed; empty when they are not.
        identities: what opens sealed parts; no repr shows it.
        ca: the device CA's certificate, DER.
        root: the root's, DER.
        factory: the organizational unit.
        not_before: UTC.
        not_after: UTC.
        production: for rows that say nothing.
        csr_rows: rows whose devices keep their keys; 0 means that every bundle must have one, whatever its row says.
        gateway: host:port; None when bundles have no sota.toml.
        ostree: host:port; None when bundles have no sota.toml.
        hardware_id: for rows that name none.
        tag: for rows that name none.
        device_hsm_module: the PKCS#11 module on the devices; None when sota.toml names files.
        with_certificates: whether every row must have the certificate.
        formulas_neutralised: whether the rows have an apostrophe before text that looks like a formula.
    """

    out: Path
    format: str
    seal_to: tuple[str, ...]
    identities: AgeIdentities | None
    ca: bytes
    root: bytes
    factory: str
    not_before: datetime
    not_after: datetime
    production: bool
    csr_rows: int
    gateway: str | None
    ostree: str | None
    hardware_id: str | None
    tag: str | None
    device_hsm_module: str | None
    with_certificates: bool
    formulas_neutralised: bool

    @classmethod
    def of(
        cls, out: Path, record: RunRecord, anchors: Anchors, *, finished: bool, identities: AgeIdentities | None = None
    ) -> RunFacts:
        """The facts of a run, with the certificates that it is checked against.

        Args:
            out: the output folder.
            record: what was asked.
            anchors: the certificates.
            identities: what opens sealed parts.
            finished: whether rows come from the output manifest; those of an unfinished run are as in the input.
        """
        return cls(
            out=out,
            format=record.format,
            seal_to=record.seal_to,
            identities=identities,
            ca=anchors.ca,
            root=anchors.root,
            factory=record.factory,
            not_before=record.starts,
            not_after=record.ends,
            production=record.production,
            csr_rows=record.csr_rows,
            gateway=record.gateway,
            ostree=record.ostree,
            hardware_id=record.hardware_id,
            tag=record.tag,
            device_hsm_module=record.device_hsm_module,
            with_certificates=record.with_certificates,
            formulas_neutralised=finished and record.spreadsheet_safe and record.manifest_format == "csv",
        )
