"""What is fixed when a run begins: the record that `run.json` keeps, the window of validity among it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer import __version__, profiles
from batch_issuer.bundles.sealed import stored_as
from batch_issuer.output.record import RunRecord, format_time

if TYPE_CHECKING:
    from datetime import datetime

    from batch_issuer.authority.issuer import Issuer
    from batch_issuer.batch.means import Means
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.batch.rows import RowsRead
    from batch_issuer.bundles.sota import SotaSettings
    from batch_issuer.manifest.reading import Manifest

__all__ = ["choose_window", "new_record"]

_AS_ASKED = (
    "skip_rejects",
    "p12_passwords",
    "part_size",
    "days",
    "backdate",
    "production",
    "reissue",
    "with_certificates",
    "spreadsheet_safe",
    "report",
)
"""Options that the record has as they were asked."""

_OF_SOTA = ("gateway", "ostree", "hardware_id", "tag", "device_hsm_module")
"""Settings of `sota.toml` that the record has; all null in a run that makes none."""


def choose_window(request: RunRequest, issuer: Issuer, now: datetime) -> tuple[profiles.ValidityWindow, list[str]]:
    """The certificates' validity, within the CA's; and a sentence when it was asked for longer."""
    now = now.replace(microsecond=0)
    asked = now + timedelta(days=request.days)
    not_before = max(now - timedelta(seconds=request.backdate), issuer.window.not_before)
    not_after = min(asked, issuer.window.not_after)
    if not_after < asked:
        end = f"{not_after:%Y-%m-%d}"
        return profiles.ValidityWindow(not_before, not_after), [
            f"--days {request.days} would end on {asked:%Y-%m-%d}, after {issuer.name} itself: "
            f"certificates end with it, on {end}"
        ]
    return profiles.ValidityWindow(not_before, not_after), []


def new_record(
    request: RunRequest,
    means: Means,
    manifest: Manifest,
    rows: RowsRead,
    window: profiles.ValidityWindow,
    *,
    seal_to: tuple[str, ...],
    sota: SotaSettings | None,
    ledger_run: str | None,
    named_by_attempt: bool,
) -> RunRecord:
    """The record of a run that begins now.

    Args:
        request: the options.
        means: what it issues with.
        manifest: read to its end.
        rows: what was found in it.
        window: of all certificates.
        seal_to: recipients, checked.
        sota: the settings of `sota.toml`; None in a run that makes none.
        ledger_run: its id in the ledger; None without one.
        named_by_attempt: whether bundles keep the name of the attempt that made them.
    """
    issuer, signer = means.issuer, means.signer
    asked: dict[str, Any] = {name: getattr(request, name) for name in _AS_ASKED}
    return RunRecord(
        version=__version__,
        manifest=request.manifest_name,
        manifest_sha256=manifest.sha256,
        manifest_kind=manifest.kind,
        manifest_format=request.manifest_format or manifest.kind,
        rows=rows.read,
        accepted=rows.accepted,
        csr_rows=rows.csr_rows,
        factory=issuer.factory,
        ca_name=issuer.name,
        ca_certificate=_pem(issuer.certificate),
        root_certificate=_pem(issuer.root),
        ledger_run=ledger_run,
        signer=None if signer is None else signer.name,
        signer_certificate=None if signer is None else signer.certificate_pem(),
        not_before=format_time(window.not_before),
        not_after=format_time(window.not_after),
        format=stored_as(request.format, sealed=bool(seal_to)),
        seal_to=seal_to,
        named_by_attempt=named_by_attempt,
        **asked | {name: getattr(sota, name, None) for name in _OF_SOTA},
    )


def _pem(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()
