"""Arrow columns straight from octets: no Python object per value, which would cost more than the value is worth."""

from __future__ import annotations

from array import array
from itertools import accumulate
from typing import TYPE_CHECKING, cast

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "binary_column",
    "fixed_text_characters",
    "fixed_text_column",
    "fixed_text_values",
    "hex_octets",
    "is_text",
    "row_numbers",
]


def fixed_text_column(characters: bytes, width: int) -> pa.Array:
    """A text column of values of one width.

    Args:
        characters: the values' ASCII characters, one value after the other.
        width: characters per value.
    """
    count = len(characters) // width
    offsets = array("i", range(0, width * (count + 1), width))
    return pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(characters)])


def binary_column(values: Sequence[bytes | None]) -> pa.Array:
    """A binary column; together the values have less than 2 GiB."""
    if None in values:
        return pa.array(values, pa.binary())
    whole = cast("Sequence[bytes]", values)
    offsets = array("i", accumulate(map(len, whole), initial=0))
    content = pa.py_buffer(b"".join(whole))
    return pa.Array.from_buffers(pa.binary(), len(values), [None, pa.py_buffer(offsets), content])


def fixed_text_values(column: pa.Array, width: int) -> list[bytes]:
    """The values of a text column without nulls whose values all have `width` ASCII characters."""
    characters = fixed_text_characters(column, width)
    return [characters[offset : offset + width] for offset in range(0, len(characters), width)]


def fixed_text_characters(column: pa.Array, width: int) -> bytes:
    """The same values as one run of characters."""
    start = column.offset * width
    characters: bytes = column.buffers()[2].slice(start, len(column) * width).to_pybytes()
    return characters


def hex_octets(column: pa.Array, width: int) -> bytes:
    """The octets that such values are the hexadecimal digits of; hyphens between them do not count."""
    return bytes.fromhex(fixed_text_characters(column, width).decode().replace("-", ""))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def row_numbers(start: int, count: int) -> pa.Array:
    """The `count` numbers from `start` on, int64."""
    return pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(array("q", range(start, start + count)))])
