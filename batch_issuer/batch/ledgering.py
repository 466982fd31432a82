"""What a run has to do with the ledger: what it may not issue again, what it holds, and what it has issued.

1. The plan looks its devices up, and rejects those that an earlier run has issued, unless they are to be issued again.
2. The run's id is written into its own folder; then its devices, and the keys that they bring, are held, in one
   transaction; then `run.json` is there.
   A plan that was killed in between is followed by one that finds the id, and gives up what that one held.
3. Each part is recorded when its worker reports it, from its commit record; a resume records what a kill left out.
   After the last one the keys are let go of, which the parts' records have.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from cryptography import x509

from batch_issuer.batch.findings import RowSet
from batch_issuer.batch.held import BroughtKeys, PlannedParts, octets_of
from batch_issuer.batch.spill import PlanReader
from batch_issuer.columns import hex_octets
from batch_issuer.devices import UUID_LENGTH, Rejection
from batch_issuer.errors import LedgerError, RunFailedError
from batch_issuer.figures import counted
from batch_issuer.ledger.entries import IssuedPart, LedgerRun
from batch_issuer.ledger.ledger import open_ledger
from batch_issuer.output.record import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from batch_issuer.batch.home import Home
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.ledger.entries import Found
    from batch_issuer.ledger.ledger import Ledger
    from batch_issuer.manifest.duplicates import UniqueDevices, UniqueKeys
    from batch_issuer.output.record import RunRecord

__all__ = ["RunLedger", "open_run_ledger"]

_RECORDED = (("device_uuid", UUID_LENGTH), ("serial_number", 40), ("public_key_sha256", 64))
"""What the ledger takes of a part's rows, with the characters of each value."""

_SHOWN = 8

_NOTE = ".run/ledger-run"
"""Where the run's id is before `run.json` has it."""


def open_run_ledger(
    request: RunRequest, home: Home, before: RunRecord | None, *, dry: bool = False
) -> RunLedger | None:
    """The ledger that was asked for, for this run; None if none was, or a dry run found none.

    Args:
        request: the options.
        home: where the run's output lives.
        before: the run to be resumed, None for a new one.
        dry: whether nothing may be written.

    Raises:
        LedgerError: it cannot be used, or does not know the run to be resumed.
    """
    ledger = None if request.ledger is None else open_ledger(request.ledger, create=not dry)
    if ledger is None:
        return None
    try:
        run = None if before is None else before.ledger_run
        if run is not None:
            return RunLedger(ledger, home, run, _known_number(ledger, run, request, home), reissue=request.reissue)
        if not dry:
            _give_up(ledger, home)
        return RunLedger(ledger, home, uuid.uuid4().hex, None, reissue=request.reissue)
    except BaseException:
        ledger.close()
        raise


def _known_number(ledger: Ledger, run: str, request: RunRequest, home: Home) -> int:
    number = ledger.number(run)
    if number is None:
        raise LedgerError(
            f"the ledger {request.ledger} does not know the run that {home.shown()} holds",
            hint="resume with the ledger that it began with",
        )
    return number


def _give_up(ledger: Ledger, home: Home) -> None:
    """What a plan held that was killed before its run began."""
    noted = home.get(_NOTE)
    if noted is None:
        return
    run = noted.decode()
    if ledger.number(run) is not None:
        ledger.release(run)


class RunLedger:
    """An open ledger and one run; a context manager.

    Args:
        ledger: open.
        home: where the run's output lives.
        run: the run's id.
        number: its number in the ledger, None if it is not there yet.
        reissue: whether devices may be issued again.

    Attributes:
        id: the run's id.
        reissued: after `refuse`, how many of the run's devices were issued before.
    """

    def __init__(self, ledger: Ledger, home: Home, run: str, number: int | None, *, reissue: bool) -> None:
        self.id = run
        self.reissued = 0
        self._ledger = ledger
        self._home = home
        self._number = number
        self._reissue = reissue
        self._rekeyed = self._seen = 0
        self._brought: Iterable[bytes] = ()

    def __enter__(self) -> RunLedger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ledger.close()

    def refuse(self, devices: UniqueDevices, keys: UniqueKeys, refused: RowSet) -> Iterator[Rejection]:
        """A finding for each row whose device or key an earlier run has issued; none if they are to be issued again.

        Of a run that is resumed the runs before it count, and so its findings are those that it began with.

        Args:
            devices: the manifest's.
            keys: those that devices bring.
            refused: rows with another finding, which is enough; who calls puts in the row of each finding that it is
                given, before it asks for the next.

        Raises:
            LedgerError: a run that is not finished holds one of the devices or keys.
        """
        self._seen = self._ledger.look()
        self._brought = BroughtKeys(keys, refused)
        if self._reissue:
            kept = RowSet()
            for table in self._known(keys, self._ledger.keys, "keys"):
                for row in table["row"].to_pylist():
                    kept.add(row)
            for table in self._known(devices, self._ledger.devices, "devices"):
                self.reissued += len(table)
                self._rekeyed += sum(row not in kept for row in table["row"].to_pylist())
            return
        runs = cache(self._ledger.run)
        for values, look, what, rejection in (
            (devices, self._ledger.devices, "devices", _device_rejection),
            (keys, self._ledger.keys, "keys", _key_rejection),
        ):
            for table in self._known(values, look, what):
                for row, value, run in zip(*(column.to_pylist() for column in table.columns), strict=True):
                    if row not in refused:
                        yield rejection(values.column, row, value, runs(run))

    def _known(self, values: UniqueDevices | UniqueKeys, look: Callable[..., Found], what: str) -> Iterator[pa.Table]:
        """What the ledger has of some values: `row`, `value` and the last `run` that has it, in tables of bounded size.

        The whole ledger is gone through for each of them, so more memory for the plan makes it faster.
        """
        for table in values.distinct():
            found = look(octets_of(table), before=self._number)
            if found.held is not None and self._number is None:
                holder = self._ledger.run(found.held)
                raise LedgerError(
                    f"{what} of the manifest are held by a run that is not finished: {holder.id} in {holder.out}",
                    hint="resume that run first; if its folder is gone, `batch-issuer ledger release` gives them up",
                )
            if len(found.values):
                places = pc.index_in(table["value"], value_set=found.values)
                yield table.append_column("run", found.runs.take(places)).filter(pc.is_valid(places))

    def warnings(self) -> list[str]:
        """What the user is told of devices that are issued again."""
        if not self._rekeyed:
            return []
        told = (
            "had a certificate before: a gateway that knows such a device by its first key answers 502 to the new one"
        )
        return [f"{counted(self._rekeyed, 'device')} of this run {told}, until its entry is deleted there"]

    @contextmanager
    def holding(self, record: RunRecord) -> Iterator[None]:
        """Hold the devices of the run's accepted rows, and the keys that they bring.

        If what is done meanwhile fails, a new run gives them up.

        Raises:
            LedgerError: another run took one meanwhile; nothing is held.
            OSError: the run's folder cannot be written.
        """
        new = self._number is None
        if new:
            self._home.put(_NOTE, self.id.encode())
        with PlanReader(self._home.folder.plan) as plan:
            parts = PlannedParts(plan, record)
            run = _described(self.id, self._home, record)
            self._number = self._ledger.reserve(run, parts, seen=self._seen, keys=self._brought)
            self._brought = ()
        try:
            yield
        except BaseException:
            if new:
                self._ledger.release(self.id)
            raise

    def record(self, index: int) -> None:
        """A part is issued.

        Raises:
            RunFailedError: the ledger cannot be used; a resume records the part.
        """
        assert self._number is not None  # noqa: S101 - the plan has held them
        rows = self._home.read_commit(index).rows
        octets = [hex_octets(rows.column(name).combine_chunks(), width) for name, width in _RECORDED]
        with _resumable():
            self._ledger.record(self._number, IssuedPart(index, *octets), format_time(datetime.now(UTC)))

    def settle(self) -> None:
        """All parts are issued and recorded.

        Raises:
            RunFailedError: the ledger cannot be used; a resume does it.
        """
        assert self._number is not None  # noqa: S101 - the plan has held them
        with _resumable():
            self._ledger.settle(self._number)


@contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except LedgerError as error:
        raise RunFailedError(str(error)) from None


def _device_rejection(column: str, row: int, value: bytes, run: LedgerRun) -> Rejection:
    device = str(uuid.UUID(bytes=value))
    message = f"row {row}, column {column!r}: {device} was issued by run {run.id[:_SHOWN]} into {run.out}"
    return Rejection(row, column, device, "ledger-issued", message)


def _key_rejection(column: str, row: int, value: bytes, run: LedgerRun) -> Rejection:
    key = f"{value.hex()}…"
    found = f"its public key (SHA-256 {key}) was certified by run {run.id[:_SHOWN]} into {run.out}"
    return Rejection(row, column, key, "ledger-key", f"row {row}, column {column!r}: {found}")


def _described(run: str, home: Home, record: RunRecord) -> LedgerRun:
    ca = x509.load_pem_x509_certificate(record.ca_certificate.encode())
    try:
        identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        identifier = None
    return LedgerRun(
        id=run,
        out=home.address,
        manifest=record.manifest,
        manifest_sha256=record.manifest_sha256,
        factory=record.factory,
        ca_name=record.ca_name,
        ca_serial=ca.serial_number.to_bytes(-(-ca.serial_number.bit_length() // 8)),
        ca_key_identifier=identifier,
        not_before=record.not_before,
        not_after=record.not_after,
        began=format_time(datetime.now(UTC)),
    )
