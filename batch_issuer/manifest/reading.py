"""A manifest file, whatever its kind: told by its content, digested, and read row by row."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from batch_issuer.errors import ManifestError
from batch_issuer.manifest.columns import check_types, lay_out
from batch_issuer.manifest.csv_file import CsvManifest
from batch_issuer.manifest.parquet_file import MAGIC, ParquetManifest
from batch_issuer.manifest.rows import check_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from io import BufferedReader

    import pyarrow as pa

    from batch_issuer.manifest.rows import CheckedRows, RowRules

__all__ = ["Manifest"]


class Manifest:
    """A manifest, open; a context manager.

    Args:
        file: the file, open for reading, at its begin; closed with the manifest.
        name: what to call it in messages.
        reserved: the output manifest's own column names.

    Attributes:
        sha256: of the file's octets, hex.
        kind: `csv` or `parquet`, told by content.
        layout: which column is which.
        types: the columns' Arrow types; None for CSV, where all is text.

    Raises:
        ManifestError: it is empty, or its columns are not a manifest's.
    """

    def __init__(self, file: BufferedReader, name: str, *, reserved: Collection[str]) -> None:
        self._name = name
        self._file = file
        try:
            self._status = os.fstat(self._file.fileno())
            self.sha256 = hashlib.file_digest(self._file, "sha256").hexdigest()
            self._file.seek(0)
            self._reader = _reader(self._file, name)
            self.kind = self._reader.kind
            self.types: list[pa.DataType] | None = self._reader.types
            self.layout = lay_out(self._reader.names, reserved)
            if self.types is not None:
                check_types(self.layout, self.types)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def rows(self, rules: RowRules) -> Iterator[CheckedRows]:
        """The rows, some thousands at a time, checked.

        Raises:
            ManifestError: the file is damaged, has no data row, or changed while it was read.
        """
        read = 0
        for raw in self._reader.batches():
            checked = check_rows(raw, self.layout, rules)
            read += checked.read
            yield checked
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise ManifestError(
                f"the manifest {self._name} changed while it was read", hint="run again when it is whole"
            )
        if read == 0:
            raise ManifestError(f"the manifest {self._name} has no devices: only a header")


def _reader(file: BufferedReader, name: str) -> CsvManifest | ParquetManifest:
    start = file.read(len(MAGIC))
    file.seek(0)
    if start == MAGIC:
        return ParquetManifest(file)
    if not start:
        raise ManifestError(f"the manifest {name} is empty", hint="it needs a header line, such as: device_uuid,name")
    if name.lower().endswith((".parquet", ".pq")):
        raise ManifestError(
            f"the manifest {name} is not a Parquet file: it begins with {start!r}, expected {MAGIC!r}",
            hint="if it is CSV, give it the suffix .csv",
        )
    return CsvManifest(file)
