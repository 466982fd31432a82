"""What a run has to do with the ledger: what it may not issue again, what it holds, and what it has issued.

1. The plan looks its devices up, and rejects those that an earlier run has issued, unless they are to be issued again.
2. The run's id is written into its own folder; then its devices are held, in one transaction; then `run.json` is there.
   A plan that was killed in between is followed by one that finds the id, and gives up what that one held.
3. Each part is recorded when its worker reports it, from its commit record; a resume records what a kill left out.
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
from batch_issuer.batch.spill import PlanReader
from batch_issuer.columns import hex_octets
from batch_issuer.devices import UUID_LENGTH, Rejection
from batch_issuer.errors import LedgerError, RunFailedError
from batch_issuer.figures import counted
from batch_issuer.ledger.entries import IssuedPart, LedgerRun, ReservedPart
from batch_issuer.ledger.ledger import open_ledger
from batch_issuer.manifest.partitions import KEY_OCTETS
from batch_issuer.output.record import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
            LedgerError: a run that is not finished holds one of the devices.
        """
        self._seen = self._ledger.look()
        if self._reissue:
            kept = RowSet()
            for table in self._known(keys, self._ledger.keys):
                for row in table["row"].to_pylist():
                    kept.add(row)
            for table in self._known(devices, self._ledger.devices):
                self.reissued += len(table)
                self._rekeyed += sum(row not in kept for row in table["row"].to_pylist())
            return
        runs = cache(self._ledger.run)
        for values, look, rejection in (
            (devices, self._ledger.devices, _device_rejection),
            (keys, self._ledger.keys, _key_rejection),
        ):
            for table in self._known(values, look):
                for row, value, run in zip(*(column.to_pylist() for column in table.columns), strict=True):
                    if row not in refused:
                        yield rejection(values.column, row, value, runs(run))

    def _known(self, values: UniqueDevices | UniqueKeys, look: Callable[..., Found]) -> Iterator[pa.Table]:
        """What the ledger has of some values: `row`, `value` and the last `run` that has it, in tables of bounded size.

        The whole ledger is gone through for each of them, so more memory for the plan makes it faster.
        """
        for table in values.distinct():
            found = look(_octets(table), before=self._number)
            if found.held is not None and self._number is None:
                holder = self._ledger.run(found.held)
                raise LedgerError(
                    f"devices of the manifest are held by a run that is not finished: {holder.id} in {holder.out}",
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
        """Hold the devices of the run's accepted rows; if what is done meanwhile fails, a new run gives them up.

        Raises:
            LedgerError: another run took one meanwhile; nothing is held.
            OSError: the run's folder cannot be written.
        """
        new = self._number is None
        if new:
            self._home.put(_NOTE, self.id.encode())
        with PlanReader(self._home.folder.plan) as plan:
            parts = _PlannedParts(plan, record)
            self._number = self._ledger.reserve(_described(self.id, self._home, record), parts, seen=self._seen)
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
        try:
            self._ledger.record(self._number, IssuedPart(index, *octets), format_time(datetime.now(UTC)))
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


def _octets(table: pa.Table) -> bytes:
    """The values of a table of fixed-size values, one after the other."""
    [chunk] = table["value"].chunks
    octets: bytes = chunk.buffers()[1].slice(KEY_OCTETS * chunk.offset, KEY_OCTETS * len(chunk)).to_pybytes()
    return octets


class _PlannedParts:
    """The parts of a plan as the ledger holds them, read anew each time that they are gone through."""

    def __init__(self, plan: PlanReader, record: RunRecord) -> None:
        self._plan = plan
        self._record = record

    def __iter__(self) -> Iterator[ReservedPart]:
        for index, rows in enumerate(self._plan.parts()):
            yield ReservedPart(index, hex_octets(rows.column("device_uuid"), UUID_LENGTH), _flags(rows, self._record))


def _flags(rows: pa.RecordBatch, record: RunRecord) -> bytes:
    flags = pc.fill_null(rows.column("production"), record.production)
    octets: bytes = pc.cast(flags, pa.uint8()).buffers()[1].to_pybytes()
    return octets[: len(rows)]


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
