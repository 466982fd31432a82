"""A Parquet manifest, read in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batch_issuer.columns import is_text, row_numbers
from batch_issuer.errors import ManifestError
from batch_issuer.manifest.rows import RawRows, not_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

__all__ = ["MAGIC", "ParquetManifest"]

MAGIC = b"PAR1"
_CHUNK = 20_000


class ParquetManifest:
    """The rows of a Parquet file.

    Args:
        file: the file, seekable.

    Attributes:
        kind: `parquet`.
        names: the columns' names.
        types: their Arrow types.

    Raises:
        ManifestError: it is no whole Parquet file.
    """

    kind = "parquet"

    def __init__(self, file: BufferedReader) -> None:
        try:
            self._file = pq.ParquetFile(file)
            schema = self._file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from None
        self.names: list[str] = list(schema.names)
        self.types: list[pa.DataType] = [_plain(kind) for kind in schema.types]

    def batches(self) -> Iterator[RawRows]:
        """The data rows, some thousands at a time.

        Raises:
            ManifestError: the file is damaged.
        """
        row = 1
        try:
            # By this thread alone: Arrow's own, which call Python for octets, can abort an interpreter that ends.
            for batch in self._file.iter_batches(batch_size=_CHUNK, use_threads=False):
                rows = row_numbers(row, len(batch))
                row += len(batch)
                columns = [
                    column if column.type == kind else column.cast(kind)
                    for column, kind in zip(batch.columns, self.types, strict=True)
                ]
                yield self._checked(rows, columns)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(error) from None

    def _checked(self, rows: pa.Array, columns: list[pa.Array]) -> RawRows:
        """The rows but those whose text is not UTF-8: careless writers make them, and Arrow reads them unchecked."""
        findings: dict[int, str] = {}
        for name, column in zip(self.names, columns, strict=True):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                if not is_text(column.type):
                    raise
                octets = column.cast(pa.large_binary()).to_pylist()
                broken = [index for index, value in enumerate(octets) if value is not None and not _is_utf8(value)]
                findings |= {index: name.strip() for index in broken if index not in findings}
        if not findings:
            return RawRows(rows, columns)
        rejections = [not_utf8(rows[index].as_py(), name) for index, name in sorted(findings.items())]
        good = pa.array([index not in findings for index in range(len(rows))])
        return RawRows(rows.filter(good), [column.filter(good) for column in columns], rejections)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without its dictionary or views: each part is stored by itself, and not all formats have them."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return pa.string() if pa.types.is_string_view(kind) else kind


def _damaged(error: Exception) -> ManifestError:
    reason = str(error).splitlines()[0].rstrip(".")
    return ManifestError(
        f"the manifest is not a whole Parquet file: {reason}", hint="copy or export it again: it may be cut off"
    )
