"""What a run would do: all of its plan, and nothing written."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.batch.acceptance import check_same, check_space
from batch_issuer.batch.claim import check_folder
from batch_issuer.batch.estimate import seconds_for
from batch_issuer.batch.ledgering import open_run_ledger
from batch_issuer.batch.passwords import check_resumed_password, run_password, storing
from batch_issuer.batch.plan import make_plan, open_manifest, run_signer
from batch_issuer.output.folder import OutputFolder
from batch_issuer.output.record import RunRecord, read_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.authority.tokens import Token
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.devices import Rejection

__all__ = ["DryRun", "dry_run"]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would do.

    Attributes:
        record: what it would be asked.
        rejections: the findings about the rows that it would reject.
        warnings: sentences for the user.
        octets: about what it would write.
        seconds: about what it would take.
    """

    record: RunRecord
    rejections: tuple[Rejection, ...]
    warnings: tuple[str, ...]
    octets: int
    seconds: float


def dry_run(
    request: RunRequest,
    *,
    now: datetime,
    passphrase: Passphrase | None = None,
    token: Token | None = None,
    p12_password: Callable[[], bytes] | None = None,
) -> DryRun:
    """All of the plan's checks, and nothing written; of a run to be resumed, whether it could be.

    Raises:
        BatchIssuerError: as `issue`, where it would refuse.
    """
    folder = OutputFolder(request.out)
    issuer = load_issuer(request.pki, request.ca_name, now=now, passphrase=passphrase, token=token)
    before = read_record(folder.record) if check_folder(folder, resume=request.resume) else None
    signer = run_signer(request, now, passphrase)
    password = run_password(request, p12_password)
    check_resumed_password(folder, before, password)
    with open_run_ledger(request, folder, before, dry=True) or nullcontext() as ledger:
        file = open_manifest(request, None)
        plan = make_plan(request, issuer, file, now=now, spill=None, signer=signer, ledger=ledger)
    record = plan.record if before is None else check_same(before, plan.record, now=now)
    existing = next(path for path in (folder.path.absolute(), *folder.path.absolute().parents) if path.exists())
    footprint = check_space(record, issuer.root, existing, spilled=0)
    seconds = seconds_for(
        record.accepted, request.workers, issuer.key.open(), csr_rows=record.csr_rows, store=storing(record.format)
    )
    return DryRun(record, tuple(plan.rejections), tuple(plan.warnings), footprint.octets, seconds)
