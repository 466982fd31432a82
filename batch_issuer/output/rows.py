"""The rows of the output manifest: their schema, and a part's rows as its commit record."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_issuer.columns import binary_column, fixed_text_column
from batch_issuer.errors import OutputError
from batch_issuer.sums import BUNDLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from batch_issuer.devices import MintedPart

__all__ = [
    "CERTIFICATE_COLUMN",
    "ISSUED_COLUMNS",
    "KEY_BROUGHT",
    "KEY_MADE",
    "KEY_ORIGIN_COLUMN",
    "CommitRecord",
    "commit_table",
    "encode_commit",
    "new_attempt",
    "read_commit",
]

_TIME = pa.timestamp("s", "UTC")
_HEX_SERIAL = 40
_HEX_DIGEST = 64

ISSUED_COLUMNS = pa.schema(
    [
        ("row", pa.int64()),
        ("device_uuid", pa.string()),
        ("serial_number", pa.string()),
        ("not_before", _TIME),
        ("not_after", _TIME),
        ("certificate_sha256", pa.string()),
        ("public_key_sha256", pa.string()),
        ("bundle", pa.string()),
    ]
)
"""What every output manifest begins with; `certificate_pem`, `key_origin` and what is carried through may follow."""

CERTIFICATE_COLUMN = "certificate_pem"

KEY_ORIGIN_COLUMN = "key_origin"
"""Where a device's key is from, in runs in which some bring theirs: which bundles have no key must not be a question
that the bundles answer themselves, or one that lost its key would look right."""

KEY_MADE, KEY_BROUGHT = "made", "csr"
"""Its values: the run made the key and the bundle holds it; or the row brought a CSR and the bundle holds none."""

_ATTEMPT = b"batch_issuer.attempt"
"""The attempt's key in a commit record's metadata: of the file, not of a row, so no column carried through meets it."""

_ATTEMPT_OCTETS = 4
_ATTEMPT_ID = re.compile(f"[0-9a-f]{{{2 * _ATTEMPT_OCTETS}}}")

_SUMS_COLUMN = pa.field("sums", pa.binary())
"""The last column of a commit record, known by its place: a column carried through may have any name."""

_PASSWORDS = b"batch_issuer.passwords"
"""In the metadata of a commit record that has passwords."""

_PASSWORDS_COLUMN = pa.field("passwords", pa.binary())
"""The column before it, in runs that make a password for each device; known by its place too."""


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """What a part's commit record holds.

    Attributes:
        rows: the part's rows of the output manifest.
        sums: the part's lines of `SHA256SUMS`, in the order of the rows.
        attempt: whose staged bundles these are: a part can be made twice at once, and is committed by one attempt.
        passwords: the part's lines of `p12-passwords.csv`, the same; nothing if the run makes none. Not shown by repr.
    """

    rows: pa.Table
    sums: memoryview
    attempt: str
    passwords: memoryview = field(repr=False)


def new_attempt() -> str:
    """The id of an attempt at a part: 8 hex digits."""
    return os.urandom(_ATTEMPT_OCTETS).hex()


def commit_table(
    rows: pa.Array,
    device_uuids: pa.Array,
    minted: MintedPart,
    window: tuple[datetime, datetime],
    locations: Sequence[str],
    *,
    certificates: Sequence[str] | None,
    key_origins: pa.Array | None,
    carried: dict[str, pa.Array],
) -> pa.Table:
    """A part's rows of the output manifest.

    Args:
        rows: each device's data row in the input, from 1.
        device_uuids: text.
        minted: the part.
        window: notBefore and notAfter, UTC.
        locations: each bundle's place below the bundles folder.
        certificates: PEM texts for `certificate_pem`, None without that column.
        key_origins: for `key_origin`, None without that column.
        carried: the columns carried through.
    """
    count = len(rows)
    columns = {
        "row": rows,
        "device_uuid": device_uuids,
        "serial_number": fixed_text_column(minted.serials.hex().encode(), _HEX_SERIAL),
        "not_before": pa.repeat(pa.scalar(window[0], _TIME), count),
        "not_after": pa.repeat(pa.scalar(window[1], _TIME), count),
        "certificate_sha256": fixed_text_column(minted.certificate_digests.hex().encode(), _HEX_DIGEST),
        "public_key_sha256": fixed_text_column(minted.public_key_digests.hex().encode(), _HEX_DIGEST),
        "bundle": pa.array([f"{BUNDLES}/{location}" for location in locations], pa.string()),
    }
    if certificates is not None:
        columns[CERTIFICATE_COLUMN] = pa.array(certificates, pa.string())
    if key_origins is not None:
        columns[KEY_ORIGIN_COLUMN] = key_origins
    return pa.table(columns | carried)


def encode_commit(
    rows: pa.Table, sums: Sequence[bytes], attempt: str, *, passwords: Sequence[bytes] | None = None
) -> memoryview:
    """A commit record's octets: an Arrow IPC file of one batch.

    Args:
        rows: the part's rows of the output manifest.
        sums: the lines of `SHA256SUMS` for each row. They are here and in no file of their own, so that there is no
            instant at which a part is committed without them, or they without the part.
        attempt: the attempt whose bundles they are.
        passwords: the line of `p12-passwords.csv` for each row, here for the same reason; None if the run makes none.
    """
    table, metadata = rows, {_ATTEMPT: attempt.encode()}
    if passwords is not None:
        table = table.append_column(_PASSWORDS_COLUMN, binary_column(passwords))
        metadata[_PASSWORDS] = b"made"
    table = table.append_column(_SUMS_COLUMN, binary_column(sums)).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def read_commit(path: Path, *, checked: bool = False) -> CommitRecord:
    """A commit record.

    Args:
        path: the record.
        checked: a worker of this run wrote or read it before, so its values need not be looked at one by one.

    Raises:
        OutputError: it is damaged.
    """
    try:
        with path.open("rb") as file:  # Arrow's own files need names in UTF-8
            table = pa.ipc.open_file(file).read_all()
        table.validate(full=not checked)
        return _parted(table)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        message = f"the commit record {path.name} is damaged: {error}"
        raise OutputError(message, hint="restore it from a backup") from None


def _parted(table: pa.Table) -> CommitRecord:
    metadata = table.schema.metadata or {}
    attempt = metadata.get(_ATTEMPT, b"").decode("ascii")
    if not _ATTEMPT_ID.fullmatch(attempt):
        raise ValueError("it names no attempt")
    rows, sums = _without_last(table.replace_schema_metadata(None), _SUMS_COLUMN)
    passwords = memoryview(b"")
    if _PASSWORDS in metadata:
        rows, passwords = _without_last(rows, _PASSWORDS_COLUMN)
    rows.select(ISSUED_COLUMNS.names)
    return CommitRecord(rows, sums, attempt, passwords)


def _without_last(table: pa.Table, column: pa.Field) -> tuple[pa.Table, memoryview]:
    """The table without its last column, which must be `column`, and the values of that."""
    last = table.num_columns - 1
    if last < 0 or table.schema.field(last) != column:
        raise KeyError(f"its column {column.name!r} is not where it belongs")
    # The values of a column stand one after the other in its last buffer (Arrow's columnar format, binary layout).
    return table.remove_column(last), memoryview(table.column(last).combine_chunks().buffers()[2])
