"""What was issued for devices: every certificate that the ledger knows, for people and for revocation lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from batch_issuer.ledger.entries import Entry, LedgerRun
from batch_issuer.ledger.lookup import places

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence


__all__ = ["history", "read_run"]

_RUN = """SELECT
  id, out, manifest, manifest_sha256, factory, ca_name, ca_serial, ca_key_identifier, not_before, not_after, began
  FROM runs WHERE number = ?"""
_OCTETS, _SERIAL, _DIGEST = 16, 20, 32


def read_run(connection: sqlite3.Connection, number: int) -> LedgerRun:
    """The run of that number, which is there."""
    return LedgerRun(*connection.execute(_RUN, (number,)).fetchone())


def history(connection: sqlite3.Connection, uuids: bytes | None) -> Iterator[Entry]:
    """Every certificate of some devices, and what unfinished runs hold for them, in the order of runs.

    Args:
        connection: the ledger.
        uuids: 16 octets each; None for all devices.
    """
    runs: dict[int, LedgerRun] = {}
    for number, part, held in connection.execute("SELECT run, part, uuids FROM parts ORDER BY run, part"):
        found = range(len(held) // _OCTETS) if uuids is None else places(held, uuids)
        if not found:
            continue
        if number not in runs:
            runs[number] = read_run(connection, number)
        # The other columns are of the few parts that have one of the devices, and are read of no others.
        query = "SELECT serials, public_keys, production, issued FROM parts WHERE run = ? AND part = ?"
        columns = connection.execute(query, (number, part)).fetchone()
        for place in found:
            device = str(UUID(bytes=held[_OCTETS * place : _OCTETS * (place + 1)]))
            yield _entry(device, runs[number], place, columns)


def _entry(device_uuid: str, run: LedgerRun, place: int, columns: Sequence[Any]) -> Entry:
    serials, public_keys, production, issued = columns
    return Entry(
        device_uuid=device_uuid,
        serial_number=None if serials is None else serials[_SERIAL * place : _SERIAL * (place + 1)].hex(),
        public_key_sha256=None if public_keys is None else public_keys[_DIGEST * place : _DIGEST * (place + 1)].hex(),
        production=bool(production[place]),
        issued=issued,
        run=run.id,
        out=run.out,
        factory=run.factory,
        ca_name=run.ca_name,
        ca_serial=run.ca_serial.hex(),
        ca_key_identifier=None if run.ca_key_identifier is None else run.ca_key_identifier.hex(),
        not_before=run.not_before,
        not_after=run.not_after,
    )
