"""The plan's rows on disk, a batch per part: a worker reads just its own, and no row passes the parent again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.errors import ManifestError
from batch_issuer.files import PRIVATE_MODE, create_file
from batch_issuer.manifest.rows import CARRIED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PlanReader", "PlanWriter", "drop_rows"]


class PlanWriter:
    """Cuts rows into parts; a context manager.

    Args:
        path: the new file; None counts only.
        part_size: rows per part.

    Attributes:
        rows: how many rows it took in.
    """

    def __init__(self, path: Path | None, part_size: int) -> None:
        self.rows = 0
        self._part_size = part_size
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._file = None if path is None else os.fdopen(create_file(path, PRIVATE_MODE), "wb")
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def __enter__(self) -> PlanWriter:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                self._cut(1)
                if self._writer is not None:
                    self._writer.close()
        finally:
            if self._file is not None:
                self._file.close()

    def add(self, rows: pa.Table) -> None:
        """Take in some rows; all have one schema.

        Raises:
            OSError: as write(2).
        """
        self.rows += len(rows)
        if self._file is not None and len(rows):
            self._waiting.append(rows)
            self._waiting_rows += len(rows)
            self._cut(self._part_size)

    def _cut(self, least: int) -> None:
        """Write parts while at least `least` rows wait."""
        if self._waiting_rows < least:
            return
        rows = pa.concat_tables(self._waiting)
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, rows.schema)
        start = 0
        while len(rows) - start >= least:
            part = rows.slice(start, self._part_size).combine_chunks()
            _check_one_chunk(part)
            self._writer.write_table(part)
            start += len(part)
        self._waiting = [rows.slice(start)]
        self._waiting_rows = len(rows) - start


def _check_one_chunk(part: pa.Table) -> None:
    # A text column of more than 2 GiB stays in pieces, and would become more batches than the part is.
    for name in part.column_names:
        if part[name].num_chunks > 1:
            column = name.removeprefix(CARRIED_PREFIX)
            raise ManifestError(
                f"{len(part)} rows of the manifest have more than 2 GiB in column {column!r}",
                hint="take a smaller --part-size",
            )


class PlanReader:
    """A plan's parts, each read by itself; a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")  # Arrow's own files need names in UTF-8
        self._reader = pa.ipc.open_file(self._file)

    def __enter__(self) -> PlanReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def part(self, index: int) -> pa.RecordBatch:
        """The rows of a part."""
        return self._reader.get_batch(index)

    def parts(self) -> Iterator[pa.RecordBatch]:
        """All of them, in order."""
        return map(self._reader.get_batch, range(self._reader.num_record_batches))


def drop_rows(path: Path, part_size: int, unwanted: Iterator[int]) -> None:
    """Cut a plan again, without the rows of these numbers, which come in their order; some may not be in it."""
    again = path.with_suffix(".again")
    again.unlink(missing_ok=True)
    dropping = _Ahead(unwanted)
    with PlanReader(path) as reader, PlanWriter(again, part_size) as writer:
        for batch in reader.parts():
            table = pa.Table.from_batches([batch])
            here = pa.array(dropping.until(table["row"][-1].as_py()), pa.int64())
            writer.add(table.filter(pc.invert(pc.is_in(table["row"], here))) if len(here) else table)
    os.rename(again, path)


class _Ahead:
    """Numbers in their order, taken as far as they are needed."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._next = next(numbers, None)

    def until(self, last: int) -> list[int]:
        """The next ones, up to `last`."""
        taken = []
        while self._next is not None and self._next <= last:
            taken.append(self._next)
            self._next = next(self._numbers, None)
        return taken
