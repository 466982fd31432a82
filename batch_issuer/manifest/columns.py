"""The manifest's columns: which one is which, under which names, and what is carried through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_issuer.columns import is_text
from batch_issuer.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CSR_COLUMN", "LONGEST_CELL", "MOST_COLUMNS", "ColumnLayout", "check_types", "lay_out", "shorten"]

UUID_COLUMN = "device_uuid"
UUID_NAMES = (UUID_COLUMN, "uuid", "device_id", "deviceid", "id")
PRODUCTION_COLUMN = "production"
CSR_COLUMN = "csr"
TEXT_COLUMNS = ("name", "group", "hardware_id", "tag", "apps", CSR_COLUMN)

MOST_COLUMNS = 1000
LONGEST_CELL = 4 << 20
"""Octets: a CSR has some hundreds, and no table that a person made has more in a cell."""

_SHOWN = 60
_LONGEST_NAME = 255
_UUID_OCTETS = 16


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """Which column of the manifest is which.

    Attributes:
        names: every column's name, as the manifest has it, without surrounding space.
        uuid: the place of the UUID column.
        roles: the places of the other columns that mean something, by their canonical names.
        carried: place and name in the output manifest of each column that is carried through, in the input's order.
        renamed: names that the output manifest needs for itself, and what they became.
    """

    names: tuple[str, ...]
    uuid: int
    roles: dict[str, int]
    carried: tuple[tuple[int, str], ...]
    renamed: dict[str, str]


def lay_out(names: list[str], reserved: Collection[str]) -> ColumnLayout:
    """Tell the columns apart.

    Args:
        names: the header.
        reserved: names of the output manifest's own columns.

    Raises:
        ManifestError: no UUID column or more than one, or two columns of one name.
    """
    if len(names) > MOST_COLUMNS:
        raise ManifestError(f"the manifest has {len(names)} columns, expected at most {MOST_COLUMNS}")
    stripped = [name.strip() for name in names]
    folded = [name.casefold() for name in stripped]
    for place, name in enumerate(folded):
        if len(name) > _LONGEST_NAME:
            raise ManifestError(
                f"the name of column {place + 1} of the manifest has {len(name)} characters, expected at most "
                f"{_LONGEST_NAME}: {shorten(stripped[place])}"
            )
        if name in folded[:place]:
            first = folded.index(name)
            raise ManifestError(
                f"columns {first + 1} and {place + 1} of the manifest have the same name {stripped[place]!r}",
                hint="every column needs a name of its own, without regard to case",
            )
    uuids = [place for place, name in enumerate(folded) if name in UUID_NAMES]
    if len(uuids) != 1:
        raise _uuid_column_error(stripped, uuids)
    known = (*TEXT_COLUMNS, PRODUCTION_COLUMN)
    roles = {name: folded.index(name) for name in known if name in folded}
    canonical = {place: name for name, place in roles.items()}
    carried, renamed = [], {}
    for place, name in enumerate(stripped):
        if place == uuids[0] or canonical.get(place) == CSR_COLUMN:
            continue
        target = canonical.get(place, name)
        if target.casefold() in reserved:
            renamed[name] = target = f"input_{name}"
            if target.casefold() in folded:
                raise ManifestError(f"the output manifest needs the names of the columns {name!r} and {target!r}")
        carried.append((place, target))
    return ColumnLayout(tuple(stripped), uuids[0], roles, tuple(carried), renamed)


def _uuid_column_error(names: list[str], places: list[int]) -> ManifestError:
    if places:
        which = " and ".join(repr(names[place]) for place in places)
        return ManifestError(
            f"the manifest has more than one UUID column: {which}; expected exactly one",
            hint="rename those that are something else",
        )
    listed = ", ".join(repr(shorten(name)) for name in names[:20]) or "none"
    return ManifestError(
        f"the manifest has no UUID column; expected one of {', '.join(UUID_NAMES)}; its columns: {listed}",
        hint="the first line must be a header, such as: device_uuid,name",
    )


def check_types(layout: ColumnLayout, types: list[pa.DataType]) -> None:
    """Check a typed manifest's columns.

    Raises:
        ManifestError: a column that means something has a type that cannot hold it.
    """
    kind = types[layout.uuid]
    if not (is_text(kind) or is_uuid_octets(kind)):
        raise _type_error(layout.names[layout.uuid], kind, "text, UUID or 16-byte binary")
    for role, place in layout.roles.items():
        kind = types[place]
        if role == PRODUCTION_COLUMN:
            if not (is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
                raise _type_error(layout.names[place], kind, "bool, or text or integer true/false/1/0")
        elif not (is_text(kind) or pa.types.is_null(kind)):
            raise _type_error(layout.names[place], kind, "text")


def _type_error(name: str, kind: pa.DataType, expected: str) -> ManifestError:
    return ManifestError(f"column {name!r} of the manifest has type {kind}, expected {expected}")


def is_uuid_octets(kind: pa.DataType) -> bool:
    """Whether values of this Arrow type can be the 16 octets of UUIDs."""
    if isinstance(kind, pa.UuidType):
        return True
    if pa.types.is_fixed_size_binary(kind):
        return bool(kind.byte_width == _UUID_OCTETS)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def shorten(value: object) -> str:
    """A value for a message: on one line, printable, and short."""
    text = str(value)
    shown = text[:_SHOWN]
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in shown)
    return shown if len(text) <= _SHOWN else f"{shown}… ({len(text)} characters)"
