"""A part as one Parquet file with DER in it: the fastest format, and the one for programs that read on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from batch_issuer.bundles.contents import (
    CERTIFICATE,
    PRIVATE_KEY,
    ROOT,
    SOTA_TOML,
    Bundle,
    certificate_pem,
    private_key_pem,
)
from batch_issuer.bundles.packed import PackedFormat
from batch_issuer.columns import binary_column, fixed_text_column
from batch_issuer.devices import UUID_LENGTH, CertificateDer, Sec1Der
from batch_issuer.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from batch_issuer.bundles.contents import PartBundles

__all__ = ["ParquetFormat"]

_COLUMNS = {"device_uuid": pa.string(), "private_key": pa.binary(), "certificate": pa.binary()}
_SOTA_COLUMN = "sota_toml"
_SHOWN = 200


class ParquetFormat(PackedFormat):
    """`part-00000.parquet`, mode 0600: device_uuid, private_key (SEC1 DER), certificate (DER), sota_toml (text).

    The private key is null for a device that keeps its own; nothing else is ever null.

    root.crt, the same for all devices, stands as PEM text in the file's key-value metadata: Parquet declares those
    values to be UTF-8, and readers other than Arrow's C++ refuse a file with raw DER there.
    """

    name = "parquet"
    suffix = ".parquet"

    def pieces(self, part: PartBundles) -> Iterator[memoryview]:
        """The file, in one piece."""
        columns = {
            "device_uuid": fixed_text_column(b"".join(part.device_uuids), UUID_LENGTH),
            "private_key": binary_column(part.private_keys),
            "certificate": binary_column(part.certificates),
        }
        if part.sota_toml is not None:
            columns[_SOTA_COLUMN] = _dictionary_column(part.sota_toml)
        table = pa.table(columns)
        sink = pa.BufferOutputStream()
        # Keys and signatures do not compress; statistics would put keys into the footer; Arrow's own schema would
        # make sota_toml come back as a dictionary type.
        with pq.ParquetWriter(
            sink,
            table.schema,
            compression="none",
            use_dictionary=[_SOTA_COLUMN],
            write_statistics=False,
            store_schema=False,
        ) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({ROOT: certificate_pem(part.root).decode()})
        yield memoryview(sink.getvalue())

    def octets(self, devices: int, certificate: int, root: int, sota: int) -> int:
        """The file's size for so many devices, rounded up."""
        return devices * (UUID_LENGTH + 121 + certificate + 16) + 2 * root + sota + 4096

    def bundles_in(self, file: BinaryIO, name: str, problems: tuple[str, ...]) -> Iterator[Bundle]:
        """The part's bundles, in its order, as a device has them.

        Raises:
            BundleError: it is no Parquet file, or one of another schema.
        """
        try:
            parquet = pq.ParquetFile(file)
            root = _checked_root(parquet, name)
            problems += tuple(_footer_problems(parquet.metadata, name))
            for batch in parquet.iter_batches(batch_size=1000):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield _bundle(row, root, problems)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]  # Arrow's errors have several lines
            raise BundleError(f"{name} is not a whole Parquet file: {reason}") from None


def _dictionary_column(texts: list[bytes]) -> pa.Array:
    places: dict[bytes, int] = {}
    indices = pa.array([places.setdefault(text, len(places)) for text in texts], pa.int32())
    return pa.DictionaryArray.from_arrays(indices, pa.array([text.decode() for text in places], pa.string()))


def _checked_root(parquet: pq.ParquetFile, name: str) -> bytes:
    found = [(field.name, field.type) for field in parquet.schema_arrow]
    columns = list(_COLUMNS.items())
    root = (parquet.metadata.metadata or {}).get(ROOT.encode())
    if found not in (columns, [*columns, (_SOTA_COLUMN, pa.string())]) or root is None:
        raise BundleError(f"{name} has another schema than a part of bundles")
    return bytes(root)


def _footer_problems(metadata: pq.FileMetaData, name: str) -> Iterator[str]:
    """What stands in the footer, which readers cache and show, beside what is needed to read the columns."""
    unknown = sorted(repr(key)[1:] for key in metadata.metadata if key != ROOT.encode())
    if unknown:
        yield f"{name} has metadata that does not belong there: {', '.join(unknown)[:_SHOWN]}"
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    chunks = (group.column(place) for group in groups for place in range(group.num_columns))
    shown = {chunk.path_in_schema for chunk in chunks if chunk.is_stats_set or chunk.has_column_index}
    if shown:
        yield f"{name} repeats values in column statistics, outside the columns: {', '.join(sorted(shown))}"


def _bundle(row: tuple[Any, ...], root: bytes, problems: tuple[str, ...]) -> Bundle:
    if any(value is None for value in (row[0], *row[2:])):
        return Bundle(str(row[0]), {}, (*problems, "a column of its row is null"))
    files = {CERTIFICATE: certificate_pem(CertificateDer(row[2])), ROOT: root}
    if row[1] is not None:
        files[PRIVATE_KEY] = private_key_pem(Sec1Der(row[1]))
    if len(row) == len(_COLUMNS) + 1:
        files[SOTA_TOML] = row[3].encode()
    return Bundle(row[0], files, problems)
