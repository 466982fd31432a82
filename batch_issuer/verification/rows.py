"""The output manifest's rows on their way to the workers: checked as a table, cut into parts, and as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.output.folder import BUNDLES, part_name
from batch_issuer.output.rows import CERTIFICATE_COLUMN, ISSUED_COLUMNS, KEY_BROUGHT, KEY_ORIGIN_COLUMN
from batch_issuer.verification.finding import Fault, Findings
from batch_issuer.verification.readable import shown_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.output.record import RunRecord
    from batch_issuer.verification.sums import SumsWalk

__all__ = ["FOLDERS_PER_TASK", "OPTIONAL_COLUMNS", "SUFFIXES", "ManifestWalk", "PartTask", "Row", "decode_rows"]

OPTIONAL_COLUMNS = ("production", "hardware_id", "tag", "apps", CERTIFICATE_COLUMN, KEY_ORIGIN_COLUMN)
"""Columns of the output manifest that bear on a device's bundle, where they are there."""

FOLDERS_PER_TASK = 5000
"""Bundles checked together when each has an entry of its own in the bundles folder."""

SUFFIXES = {"dir": "", "p12": ".p12"}
"""What follows the UUID in a bundle's name, in the formats that give each an entry of its own."""


class Row(NamedTuple):
    """One row of the output manifest, as it is said there; the optional columns are empty where they are not there.

    Times are seconds since 1970, UTC.
    """

    row: int
    device_uuid: str
    serial_number: str
    not_before: int
    not_after: int
    certificate_sha256: str
    public_key_sha256: str
    bundle: str
    production: str | None
    hardware_id: str | None
    tag: str | None
    apps: str | None
    certificate_pem: str | None
    key_origin: str | None


@dataclass(frozen=True, slots=True)
class PartTask:
    """Rows whose bundles are checked together.

    Attributes:
        location: their part's name below the bundles folder; None when each has a folder of its own.
        rows: an Arrow IPC stream.
        count: how many rows.
        sums: where their lines of SHA256SUMS begin and end; None when these are not checked.
        passwords: of each row's bundle, None for one that nobody knows; empty when bundles have none. Not shown by
            repr.
    """

    location: str | None
    rows: bytes
    count: int
    sums: tuple[int, int] | None = None
    passwords: tuple[bytes | None, ...] = field(default=(), repr=False)

    @property
    def place(self) -> str:
        """Where that is, for messages."""
        return f"{BUNDLES}/{self.location or ''}"


def decode_rows(stream: bytes) -> list[Row]:
    """The rows of a task."""
    table = pa.ipc.open_stream(stream).read_all()
    columns = []
    for name in Row._fields:
        if name not in table.column_names:
            columns.append([None] * len(table))
            continue
        column = table.column(name)
        columns.append((column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist())
    return list(map(Row._make, zip(*columns, strict=True)))


class ManifestWalk:
    """Goes through the output manifest once: checks it as a table and cuts it into tasks.

    Args:
        record: what was asked of the run.
        finished: whether every part must be there.
        findings: takes what is wrong.
        rejected: the rejected rows, sorted, int64.
        sums: SHA256SUMS, gone through beside it; None if the run has none yet.
        passwords: gives a bundle's password by its device's UUID; None when bundles have none.

    Attributes:
        devices: rows seen.
        csr_rows: of these, rows whose devices keep their keys.
        locations: the parts that rows name, below the bundles folder; empty when each device has a folder of its own.
    """

    def __init__(
        self,
        record: RunRecord,
        findings: Findings,
        rejected: pa.Array,
        sums: SumsWalk | None = None,
        passwords: PasswordOf | None = None,
    ) -> None:
        self.devices = self.csr_rows = 0
        self.locations: set[str] = set()
        self._record = record
        self._findings = findings
        self._rejected = rejected
        self._sums = sums
        self._passwords = passwords
        self._place = f"manifest.{record.manifest_format}"
        self._last_row = 0
        self._packed = record.format not in SUFFIXES
        self._suffix = SUFFIXES.get(record.format, "")
        suffix = record.format + (".age" if record.seal_to else "")
        self._parts = {f"{part_name(index)}.{suffix}": index for index in range(record.parts)}

    def tasks(self, tables: Iterable[pa.Table]) -> Iterator[PartTask]:
        """The rows of a manifest in tasks, none of them checked twice."""
        waiting: pa.Table | None = None
        for table in tables:
            self._check(table)
            joined = table if waiting is None else pa.concat_tables([waiting, table])
            *whole, waiting = self._cut(joined)
            for rows in whole:
                yield from self._task(rows)
        if waiting is not None:
            yield from self._task(waiting)

    def _check(self, table: pa.Table) -> None:
        rows = table.column("row").combine_chunks()
        if not len(rows):
            return
        self.devices += len(rows)
        if KEY_ORIGIN_COLUMN in table.column_names:
            self.csr_rows += pc.sum(pc.equal(table.column(KEY_ORIGIN_COLUMN), KEY_BROUGHT)).as_py() or 0
        faults = []
        if rows.null_count or any(table.column(name).null_count for name in ISSUED_COLUMNS.names):
            faults.append(Fault("manifest-null", "values are missing in columns that have one in every row"))
        before = pa.concat_arrays([pa.array([self._last_row], pa.int64()), rows[:-1]])
        out_of_order = pc.indices_nonzero(pc.fill_null(pc.less_equal(rows, before), True))
        if len(out_of_order):
            first = rows[out_of_order[0].as_py()].as_py()
            faults.append(Fault("manifest-order", f"the row numbers do not ascend at row {first}"))
        self._last_row = rows[-1].as_py() or 0
        if (pc.max(rows).as_py() or 0) > self._record.rows:
            faults.append(Fault("manifest-row", f"it has row numbers past the {self._record.rows} rows of the input"))
        both = rows.filter(pc.is_in(rows, self._rejected)).to_pylist()
        faults += [Fault("row-issued-and-rejected", f"row {row} is in rejects.csv too") for row in both]
        self._findings.add(faults, self._place)

    def _cut(self, table: pa.Table) -> list[pa.Table]:
        """Whole pieces, and last the one that may go on in the next table."""
        if self._packed:
            ends = pc.run_end_encode(table.column("bundle").combine_chunks()).run_ends.to_pylist()
        else:
            ends = [*range(FOLDERS_PER_TASK, len(table), FOLDERS_PER_TASK), len(table)]
        return [table.slice(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]

    def _task(self, rows: pa.Table) -> Iterator[PartTask]:
        location = None
        if self._packed:
            location = self._known_part(rows)
            if location is None:
                return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        passwords: tuple[bytes | None, ...] = ()
        if self._passwords is not None:
            passwords = tuple(map(self._passwords, rows.column("device_uuid").to_pylist()))
        yield PartTask(location, sink.getvalue().to_pybytes(), len(rows), self._span(location, rows), passwords)

    def _span(self, location: str | None, rows: pa.Table) -> tuple[int, int] | None:
        if self._sums is None:
            return None
        if location is not None:
            return self._sums.span(lambda: [location], location, 1)
        uuids, suffix = rows.column("device_uuid").to_pylist(), self._suffix
        return self._sums.span(lambda: [f"{uuid}{suffix}" for uuid in uuids], f"{uuids[-1]}{suffix or '/'}", len(uuids))

    def _known_part(self, rows: pa.Table) -> str | None:
        """The part that the rows name; None, with a finding, if it is none of this run's or named before."""
        named = str(rows.column("bundle")[0].as_py())
        first, last = (rows.column("row")[place].as_py() for place in (0, len(rows) - 1))
        location = named.removeprefix(f"{BUNDLES}/")
        index = self._parts.get(location)
        if index is None or named == location:
            wrong = (
                f"rows {first} to {last} name {shown_text(named)} as their bundle's place, which is no part of this run"
            )
            self._findings.add([Fault("row-bundle", wrong)], self._place, row=first)
            return None
        if location in self.locations:
            wrong = f"rows {first} to {last} name {named} again, after others"
            self._findings.add([Fault("manifest-order", wrong)], self._place, row=first)
            return None
        self.locations.add(location)
        if len(rows) != self._record.part_devices(index):
            wrong = f"{len(rows)} rows are in this part, expected {self._record.part_devices(index)}"
            self._findings.add([Fault("part-count", wrong)], named)
        return location
