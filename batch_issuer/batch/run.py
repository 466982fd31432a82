"""The story of one run, from the request to the summary. The steps are numbered once, here, in `part` and `finish`.

1 plan - 2 mint and stage - 3 commit - 4 publish - 5 finish.
"""

from __future__ import annotations

import errno
import time
from contextlib import ExitStack, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from batch_issuer.batch.acceptance import check_same, check_space
from batch_issuer.batch.engines import check_engine, open_engine
from batch_issuer.batch.finish import finish_run, finished_before
from batch_issuer.batch.first import judge_for, judged
from batch_issuer.batch.home import home_of
from batch_issuer.batch.ledgering import open_run_ledger
from batch_issuer.batch.means import Secrets, gather_means
from batch_issuer.batch.part import PartDone, PartWork
from batch_issuer.batch.passwords import check_resumed_password
from batch_issuer.batch.plan import make_plan
from batch_issuer.batch.source import open_manifest
from batch_issuer.batch.summary import Summary
from batch_issuer.errors import Interrupted, OutputError, RunFailedError, StoreError
from batch_issuer.reporting.report import RunReport
from batch_issuer.scratch import Scratch
from batch_issuer.stopping import StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from batch_issuer.batch.engines import Engine
    from batch_issuer.batch.home import Hold, Home
    from batch_issuer.batch.ledgering import RunLedger
    from batch_issuer.batch.means import Means
    from batch_issuer.batch.observer import Observer
    from batch_issuer.batch.plan import Plan
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.errors import BatchIssuerError
    from batch_issuer.linting.beside import JudgeBeside
    from batch_issuer.output.record import RunRecord

__all__ = ["issue"]

_RESUME_HINT = "the same command with --resume goes on from here"
_MANY_OBJECTS = (
    "with --format dir every file of every device is an object of its own, and a request: tar or parquet, with one per "
    "part, are recommended for stores"
)
_NO_SECRETS = Secrets()
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def issue(
    request: RunRequest,
    observer: Observer,
    *,
    now: datetime,
    secrets: Secrets = _NO_SECRETS,
) -> Summary:
    """Issue every device of a manifest: the main job.

    Args:
        request: the options.
        observer: who watches.
        now: UTC.
        secrets: what gives them.

    Raises:
        RefusedError: something is not fit; nothing was made.
        RowsRejectedError: rows are rejected; nothing was made.
        RunFailedError: the run began and could not end; it can be resumed.
        Interrupted: it was stopped; it can be resumed.
    """
    check_engine(request)
    home = home_of(request.prefix or request.out, request.scratch)
    with home.hold(resume=request.resume, notify=observer.say) as claim, ExitStack() as opened:
        began = time.monotonic()
        if claim.resuming and home.is_finished():
            claim.finish()
            return finished_before(request, home, observer.say)
        try:
            judge = opened.enter_context(judge_for(lint=request.lint))
            means = gather_means(request, secrets, now=now)
            before = home.read_record() if claim.resuming else None
            check_resumed_password(home.folder, before, means.p12_password)
            engine = opened.enter_context(open_engine(request, home, means.issuer))
            ledger = opened.enter_context(open_run_ledger(request, home, before) or nullcontext())
            plan = _plan(request, means, home, before, ledger=ledger, judge=judge, now=now, notify=observer.say)
        except OSError as error:
            claim.abandon()
            raise _unplanned(error, home) from error
        except BaseException:
            claim.abandon()
            raise
        for warning in plan.warnings:
            observer.warn(warning)
        try:
            run = _Run(home, claim, plan, means, engine, ledger=ledger, observer=observer)
            return run.run(request, time.monotonic() - began)
        except OSError as error:
            raise RunFailedError(_told(error), hint=f"when that is mended, {_RESUME_HINT}") from error
        except StoreError as error:
            mended = f"{error.hint}; then {_RESUME_HINT}" if error.hint else _RESUME_HINT
            raise RunFailedError(str(error), hint=mended) from None
        except (RunFailedError, Interrupted) as error:
            error.hint = error.hint or _RESUME_HINT
            raise


def _plan(
    request: RunRequest,
    means: Means,
    home: Home,
    before: RunRecord | None,
    *,
    ledger: RunLedger | None,
    judge: JudgeBeside | None,
    now: datetime,
    notify: Callable[[str], None],
) -> Plan:
    """1 Plan: everything is refused here that is to be refused; the record is the last thing written."""
    folder = home.folder
    folder.plan.unlink(missing_ok=True)
    file = open_manifest(request, folder.spool)
    scratch = Scratch(request.plan_memory, folder.work)
    fixed = partial(make_plan, now=now, spill=folder.plan, scratch=scratch, notify=notify)
    plan = fixed(request, means, file, named_by_attempt=home.named_by_attempt, ledger=ledger)
    if home.named_by_attempt and request.format == "dir":
        plan.warnings.append(_MANY_OBJECTS)
    if before is not None:
        check_same(before, plan.record, now=now)
    else:
        held = home.held_parts(plan.record.parts, request.workers)
        check_space(plan.record, means.issuer.root, folder.path, spilled=folder.plan.stat().st_size, held=held)
    plan = judged(plan, judge, before or plan.record, folder.plan)
    with ledger.holding(plan.record) if ledger is not None else nullcontext():
        if before is None:
            home.write_record(plan.record)
    return plan


class _Run:
    """A planned run: what steps 2 to 5 share."""

    def __init__(
        self,
        home: Home,
        claim: Hold,
        plan: Plan,
        means: Means,
        engine: Engine,
        *,
        ledger: RunLedger | None,
        observer: Observer,
    ) -> None:
        self._home = home
        self._claim = claim
        self._plan = plan
        self._record = home.read_record()
        self._means = means
        self._engine = engine
        self._ledger = ledger
        self._observer = observer
        self._done = self._minted = self._octets = 0

    def run(self, request: RunRequest, plan_seconds: float) -> Summary:
        planned = time.monotonic()
        workers = self._engine.workers(self._record.parts)
        report = RunReport(self._record, request.pki) if self._record.report else None
        ready = self._issue_parts(workers)
        issued = time.monotonic()
        summarise = partial(self._summary, workers, plan_seconds, planned, ready, issued)
        rejections, signer = self._plan.rejections, self._means.signer
        summary = finish_run(self._home, self._record, rejections, signer, summarise, report=report)  # 5
        self._claim.finish()
        return summary

    def _summary(self, workers: int, plan_seconds: float, planned: float, ready: float, issued: float) -> Summary:
        return Summary(
            out=self._home.shown(),
            format=self._record.format,
            devices=self._record.accepted,
            devices_now=self._minted,
            csr_rows=self._record.csr_rows,
            rejected=self._record.rows - self._record.accepted,
            parts=self._record.parts,
            octets=self._octets,
            plan_seconds=round(plan_seconds, 3),
            start_seconds=round(ready - planned, 3),
            issue_seconds=round(issued - ready, 3),
            finish_seconds=round(time.monotonic() - issued, 3),
            devices_per_second=round(self._minted / (issued - ready), 1),
            workers=workers,
            key_engine=self._means.key_engine,
            not_before=self._record.not_before,
            not_after=self._record.not_after,
            manifest=self._home.shown(self._home.folder.manifest(self._record.manifest_format).name),
            reissued=0 if self._ledger is None else self._ledger.reissued,
            signer=self._record.signer,
            warnings=tuple(self._plan.warnings),
            linted_by=self._plan.linted_by,
            report=self._home.shown(self._home.folder.report.name) if self._record.report else None,
        )

    def _issue_parts(self, workers: int) -> float:
        """2 to 4, by the workers; a committed part comes back at once, published. Returns when they were ready."""
        self._home.prepare()
        if self._claim.resuming:
            with self._claim.alone():
                self._home.sweep()
        self._observer.begin(self._record.accepted)
        try:
            with StopRequest(self._observer.say) as stop:
                work = PartWork(
                    self._home,
                    self._record,
                    self._means.issuer,
                    resumed=self._claim.resuming,
                    engine=self._means.key_engine,
                    session=int(time.time() * 1000),
                    p12_password=self._means.p12_password,
                )
                parts = self._engine.parts(work, workers=workers, stop=stop, notify=self._observer.warn)
                for index, done in parts.run(range(self._record.parts)):
                    if self._ledger is not None:
                        self._ledger.record(index)
                    self._count(done)
        finally:
            self._observer.end()
            self._engine.close()
        if self._done < self._record.accepted:
            issued = f"{self._done} of {self._record.accepted} devices are issued"
            raise Interrupted(f"interrupted: {issued}")
        if self._ledger is not None:
            self._ledger.settle()
        assert parts.ready is not None  # noqa: S101 - parts were made, by a worker
        return parts.ready

    def _count(self, done: PartDone) -> None:
        self._done += done.devices
        self._octets += done.octets
        if done.minted:
            self._minted += done.devices
        self._observer.advance(done.devices, minted=done.minted)


def _unplanned(error: OSError, home: Home) -> BatchIssuerError:
    if error.errno in _NO_SPACE:
        message = f"the plan cannot be written below {home.folder.path}: {error.strerror}"
        return OutputError(message, hint="make space, or take another --out")
    return RunFailedError(_told(error))


def _told(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"
