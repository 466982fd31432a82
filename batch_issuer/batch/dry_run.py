"""What a run would do: all of its plan, and nothing written."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from tempfile import gettempdir
from typing import TYPE_CHECKING

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.batch.acceptance import check_same, check_space
from batch_issuer.batch.engines import check_engine
from batch_issuer.batch.estimate import seconds_for
from batch_issuer.batch.first import judge_for, judged
from batch_issuer.batch.home import home_of
from batch_issuer.batch.ledgering import open_run_ledger
from batch_issuer.batch.passwords import check_resumed_password, run_password, storing
from batch_issuer.batch.plan import make_plan, run_signer
from batch_issuer.batch.signature import ca_signature
from batch_issuer.batch.source import open_manifest
from batch_issuer.errors import OutputError
from batch_issuer.minting.keys import choose_engine, key_engine
from batch_issuer.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from batch_issuer.authority.batch_signer import BatchSigner
    from batch_issuer.authority.issuer import Issuer
    from batch_issuer.authority.signers import Passphrase
    from batch_issuer.authority.tokens import Token
    from batch_issuer.batch.ledgering import RunLedger
    from batch_issuer.batch.plan import Plan
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.devices import Rejections
    from batch_issuer.output.record import RunRecord

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
    rejections: Rejections
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
    check_engine(request)
    home = home_of(request.prefix or request.out, request.scratch)
    engine = key_engine(choose_engine(request.key_engine))
    issuer = load_issuer(request.pki, request.ca_name, now=now, passphrase=passphrase, token=token)
    before = home.read_record() if home.check(resume=request.resume) else None
    signer = run_signer(request, now, passphrase)
    password = run_password(request, p12_password)
    check_resumed_password(home.folder, before, password)
    ledgered = open_run_ledger(request, home, before, dry=True) or nullcontext()
    with judge_for(lint=request.lint) as judge, ledgered as ledger:
        means = (signer, ledger, home.named_by_attempt)
        plan = _plan(request, issuer, means, now)
        record = plan.record if before is None else check_same(before, plan.record, now=now)
        plan = judged(plan, judge, record, None)
    path = home.folder.path.absolute()
    existing = next(above for above in (path, *path.parents) if above.exists())
    held = home.held_parts(record.parts, request.workers)
    footprint = check_space(record, issuer.root, existing, spilled=0, held=held)
    sign, store = ca_signature(issuer, engine), storing(record.format)
    seconds = seconds_for(record.accepted, request.workers, engine, sign, csr_rows=record.csr_rows, store=store)
    return DryRun(record, plan.rejections, tuple(plan.warnings), footprint.octets, seconds)


def _plan(
    request: RunRequest, issuer: Issuer, means: tuple[BatchSigner | None, RunLedger | None, bool], now: datetime
) -> Plan:
    """The plan, without a word into the output folder: what memory does not hold goes where temporary files go."""
    signer, ledger, named_by_attempt = means
    fixed = partial(make_plan, now=now, spill=None, scratch=Scratch(request.plan_memory))
    try:
        file = open_manifest(request, None)
        return fixed(request, issuer, file, named_by_attempt=named_by_attempt, signer=signer, ledger=ledger)
    except OSError as error:
        message = f"the plan's temporary files cannot be written below {gettempdir()}: {error.strerror or error}"
        raise OutputError(message, hint="name another folder by TMPDIR, or give the plan more --plan-memory") from None
