"""What a run would do: all of its plan, and nothing written."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from tempfile import gettempdir
from typing import TYPE_CHECKING

from batch_issuer.batch.acceptance import check_same, check_space
from batch_issuer.batch.engines import check_engine
from batch_issuer.batch.estimate import seconds_for
from batch_issuer.batch.first import judge_for, judged
from batch_issuer.batch.home import home_of
from batch_issuer.batch.ledgering import open_run_ledger
from batch_issuer.batch.means import Secrets, gather_means
from batch_issuer.batch.passwords import check_resumed_password, storing
from batch_issuer.batch.plan import make_plan
from batch_issuer.batch.signature import ca_signature
from batch_issuer.batch.source import open_manifest
from batch_issuer.errors import OutputError
from batch_issuer.minting.keys import choose_engine, key_engine
from batch_issuer.scratch import Scratch

if TYPE_CHECKING:
    from datetime import datetime

    from batch_issuer.batch.ledgering import RunLedger
    from batch_issuer.batch.means import Means
    from batch_issuer.batch.plan import Plan
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.devices import Rejections
    from batch_issuer.output.record import RunRecord

__all__ = ["DryRun", "dry_run"]

_NO_SECRETS = Secrets()


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
    rejections: Rejections
    warnings: tuple[str, ...]
    octets: int
    seconds: float


def dry_run(
    request: RunRequest,
    *,
    now: datetime,
    secrets: Secrets = _NO_SECRETS,
) -> DryRun:
    """All of the plan's checks, and nothing written; of a run to be resumed, whether it could be.

    Raises:
        BatchIssuerError: as `issue`, where it would refuse.
    """
    check_engine(request)
    home = home_of(request.prefix or request.out, request.scratch)
    means = gather_means(request, secrets, now=now)
    before = home.read_record() if home.check(resume=request.resume) else None
    check_resumed_password(home.folder, before, means.p12_password)
    ledgered = open_run_ledger(request, home, before, dry=True) or nullcontext()
    with judge_for(lint=request.lint) as judge, ledgered as ledger:
        plan = _plan(request, means, ledger, now, named_by_attempt=home.named_by_attempt)
        record = plan.record if before is None else check_same(before, plan.record, now=now)
        plan = judged(plan, judge, record, None)
    path = home.folder.path.absolute()
    existing = next(above for above in (path, *path.parents) if above.exists())
    held = home.held_parts(record.parts, request.workers)
    footprint = check_space(record, means.issuer.root, existing, spilled=0, held=held)
    engine = key_engine(choose_engine(means.key_engine))
    sign, store = ca_signature(means.issuer, engine), storing(record.format)
    seconds = seconds_for(record.accepted, request.workers, engine, sign, csr_rows=record.csr_rows, store=store)
    return DryRun(record, plan.rejections, tuple(plan.warnings), footprint.octets, seconds)


def _plan(
    request: RunRequest, means: Means, ledger: RunLedger | None, now: datetime, *, named_by_attempt: bool
) -> Plan:
    """The plan, without a word into the output folder: what memory does not hold goes where temporary files go."""
    fixed = partial(make_plan, now=now, spill=None, scratch=Scratch(request.plan_memory))
    try:
        file = open_manifest(request, None)
        return fixed(request, means, file, named_by_attempt=named_by_attempt, ledger=ledger)
    except OSError as error:
        message = f"the plan's temporary files cannot be written below {gettempdir()}: {error.strerror or error}"
        raise OutputError(message, hint="name another folder by TMPDIR, or give the plan more --plan-memory") from None
