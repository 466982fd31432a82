"""The ledger as a run uses it: ask, hold, record; and as a person does: show, release.

What a run issues it holds first, all of it in one transaction with the look for who else has it, so that of two runs at
once that want one device, one is refused. It holds it until its part is issued, whatever happens to the run meanwhile:
its resume goes on with it. Only `release` gives it up.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from batch_issuer.errors import LedgerError
from batch_issuer.ledger.database import open_database, telling, transaction
from batch_issuer.ledger.history import history, read_run
from batch_issuer.ledger.lookup import HELD_KEY, KEY, UUID, find

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from batch_issuer.ledger.entries import Entry, Found, IssuedPart, LedgerRun, ReservedPart

__all__ = ["Ledger", "open_ledger"]

_ADD_RUN = """INSERT INTO runs
  (id, out, manifest, manifest_sha256, factory, ca_name, ca_serial, ca_key_identifier, not_before, not_after, began)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_RECORD = """UPDATE parts SET serials = ?, public_keys = ?, issued = coalesce(issued, ?)
  WHERE run = ? AND part = ? AND uuids = ?"""
_LET_GO_OF_KEYS = "DELETE FROM held_keys WHERE run = ?"
_CHECKED = 32 << 20
"""Octets of UUIDs or keys that are looked up together."""


def open_ledger(path: Path, *, create: bool = False) -> Ledger | None:
    """The ledger at `path`; None if there is none and none is to be made.

    Raises:
        LedgerError: it is something else, another version's, or cannot be opened.
    """
    connection = open_database(path, create=create)
    return None if connection is None else Ledger(path, connection)


class Ledger:
    """An open ledger. Every method may raise LedgerError when the file cannot be used."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._looked = -1

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def look(self) -> int:
        """Begin to ask for devices that are to be held: what others write from now on is seen when they are.

        Returns:
            The number of the last run that all later questions see.
        """
        with telling(self._path):
            self._looked = self._version()
            [seen] = self._connection.execute("SELECT coalesce(max(number), 0) FROM runs").fetchone()
        number: int = seen
        return number

    def devices(self, uuids: bytes, *, before: int | None = None) -> Found:
        """What it knows of some devices, 16 octets each; with `before`, of runs before that number alone."""
        with telling(self._path):
            return find(self._connection, UUID, uuids, before=before)

    def keys(self, digests: bytes, *, before: int | None = None) -> Found:
        """What it knows of some public keys: the first 16 octets of the SHA-256 of each SubjectPublicKeyInfo."""
        with telling(self._path):
            return self._find_keys(digests, before)

    def number(self, run: str) -> int | None:
        """The number of the run with that id; None if it knows none."""
        with telling(self._path):
            row = self._connection.execute("SELECT number FROM runs WHERE id = ?", (run,)).fetchone()
        return None if row is None else row[0]

    def run(self, number: int) -> LedgerRun:
        """The run of that number."""
        with telling(self._path):
            return read_run(self._connection, number)

    def reserve(self, run: LedgerRun, parts: Iterable[ReservedPart], *, seen: int, keys: Iterable[bytes] = ()) -> int:
        """Hold a run's devices, and the keys that they bring, unless another run took one since `look` told `seen`.

        Of a run that it knows, what is there stays, and what lacks is added: what it held was released.

        Args:
            run: the run.
            parts: its parts, which are gone through twice if they must be looked up again.
            seen: what `look` told.
            keys: as `keys` takes them, in pieces; gone through as the parts are.

        Returns:
            The run's number.

        Raises:
            LedgerError: another run has one of the devices or keys; nothing is held.
        """
        with telling(self._path), transaction(self._connection):
            number = self.number(run.id)
            there = set() if number is None else self._parts(number)
            brought = () if number is not None and self._holds_keys(number) else keys
            if number is not None or self._version() != self._looked:
                last = seen if number is None else number
                for uuids in _joined(part.uuids for part in parts if part.part not in there):
                    self._check_free("devices", find(self._connection, UUID, uuids), last)
                for digests in _joined(brought):
                    self._check_free("keys", self._find_keys(digests), last)
            if number is None:
                number = self._connection.execute(_ADD_RUN, run).lastrowid or 0
            self._connection.executemany(
                "INSERT INTO parts (run, part, devices, uuids, production) VALUES (?, ?, ?, ?, ?)",
                (
                    (number, part.part, len(part.production), part.uuids, part.production)
                    for part in parts
                    if part.part not in there
                ),
            )
            self._connection.executemany(
                "INSERT INTO held_keys (run, keys) VALUES (?, ?)", ((number, digests) for digests in brought)
            )
            return number

    def record(self, number: int, issued: IssuedPart, when: str) -> None:
        """A part of a run is issued, since `when`, UTC. Done again, it does nothing.

        Raises:
            LedgerError: the run holds no such part.
        """
        values = (issued.serials, issued.public_keys, when, number, issued.part, issued.uuids)
        with telling(self._path):
            changed = self._connection.execute(_RECORD, values).rowcount
        if changed != 1:
            raise LedgerError(f"the ledger {self._path} does not hold part {issued.part} of this run with its devices")

    def release(self, run: str) -> int:
        """Give up what a run holds and has not issued; returns how many devices that were.

        Raises:
            LedgerError: it knows no such run.
        """
        with telling(self._path), transaction(self._connection):
            number = self.number(run)
            if number is None:
                raise LedgerError(f"the ledger {self._path} knows no run {run!r}")
            held = self._connection.execute("SELECT devices FROM parts WHERE run = ? AND issued IS NULL", (number,))
            devices: int = sum(count for (count,) in held)
            self._connection.execute("DELETE FROM parts WHERE run = ? AND issued IS NULL", (number,))
            self._connection.execute(_LET_GO_OF_KEYS, (number,))
        return devices

    def settle(self, number: int) -> None:
        """All parts of a run are issued, and its keys need not be held besides."""
        with telling(self._path):
            self._connection.execute(_LET_GO_OF_KEYS, (number,))

    def entries(self, uuids: bytes | None = None) -> Iterator[Entry]:
        """Everything about some devices, 16 octets each, or about all, in the order of runs."""
        with telling(self._path):
            yield from history(self._connection, uuids)

    def _parts(self, number: int) -> set[int]:
        return {part for (part,) in self._connection.execute("SELECT part FROM parts WHERE run = ?", (number,))}

    def _version(self) -> int:
        """Another number after every change by somebody else."""
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _holds_keys(self, number: int) -> bool:
        return self._connection.execute("SELECT 1 FROM held_keys WHERE run = ?", (number,)).fetchone() is not None

    def _find_keys(self, digests: bytes, before: int | None = None) -> Found:
        """A key that was issued counts as that, and not as held by a run that has still others to issue."""
        issued, held = (find(self._connection, what, digests, before=before) for what in (KEY, HELD_KEY))
        waiting = pc.invert(pc.is_in(held.values, value_set=issued.values))
        return replace(issued, held=held.held if pc.any(waiting).as_py() else None)

    def _check_free(self, what: str, found: Found, number: int) -> None:
        """No unfinished run has one of those that were looked for, and no run after `number`.

        Not the later runs alone: an earlier one may have got back what it had been made to give up.
        """
        taken = found.held
        if taken is None and len(found.runs) and pc.max(found.runs).as_py() > number:
            taken = pc.max(found.runs).as_py()
        if taken is not None:
            holder = self.run(taken)
            raise LedgerError(
                f"{what} of the manifest were taken meanwhile by another run: {holder.id} in {holder.out}",
                hint="issue what that run does not, into another folder",
            )


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same octets in larger pieces, for each of which the whole ledger is gone through."""
    waiting, size = [], 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHECKED:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
