"""The ledger's file: an SQLite database that is one, made with mode 0600, and durable at every commit.

A part of a run is one row: its devices' UUIDs, serial numbers and key digests stand in it as columns of octets, 16, 20
and 32 to a device. A row per device would cost the one process that all parts report to some microseconds, a tenth of
what the whole device costs. Looking for a device goes through 16 octets of every device ever issued, from the disk's
cache a second for a hundred million. The view `issued` shows them row by row, for people.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from batch_issuer.errors import LedgerError
from batch_issuer.files import PRIVATE_MODE, create_file, sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["open_database", "telling", "transaction"]

_APPLICATION = 0x42494C31
"""`BIL1`: says in the file's header whose it is (SQLite's application_id)."""

_VERSION = 1
_WAIT_SECONDS = 120
"""For another run's transaction: a plan of millions holds the ledger for some seconds."""

_HELD_KEYS = """
CREATE TABLE IF NOT EXISTS held_keys (
  run INTEGER NOT NULL REFERENCES runs (number),
  keys BLOB NOT NULL
);
"""
"""Keys that the devices of unfinished runs bring, 16 octets each. Made at every opening: older ledgers have none."""

_SCHEMA = """
CREATE TABLE runs (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  out TEXT NOT NULL,
  manifest TEXT NOT NULL,
  manifest_sha256 TEXT NOT NULL,
  factory TEXT NOT NULL,
  ca_name TEXT NOT NULL,
  ca_serial BLOB NOT NULL,
  ca_key_identifier BLOB,
  not_before TEXT NOT NULL,
  not_after TEXT NOT NULL,
  began TEXT NOT NULL
);
CREATE TABLE parts (
  run INTEGER NOT NULL REFERENCES runs (number),
  part INTEGER NOT NULL,
  devices INTEGER NOT NULL,
  uuids BLOB NOT NULL,
  production BLOB NOT NULL,
  serials BLOB,
  public_keys BLOB,
  issued TEXT,
  PRIMARY KEY (run, part)
);
CREATE VIEW issued AS
WITH RECURSIVE places (place) AS (
  SELECT 0 UNION ALL SELECT place + 1 FROM places WHERE place + 1 < (SELECT max(devices) FROM parts)
), hexed AS (
  SELECT run, part, place, issued, lower(hex(substr(uuids, 16 * place + 1, 16))) AS uuid,
    lower(hex(substr(serials, 20 * place + 1, 20))) AS serial_number,
    lower(hex(substr(public_keys, 32 * place + 1, 32))) AS public_key_sha256,
    substr(production, place + 1, 1) = x'01' AS production
  FROM parts JOIN places ON place < devices WHERE issued IS NOT NULL
)
SELECT substr(uuid, 1, 8) || '-' || substr(uuid, 9, 4) || '-' || substr(uuid, 13, 4) || '-' || substr(uuid, 17, 4)
    || '-' || substr(uuid, 21) AS device_uuid,
  serial_number, public_key_sha256, production, issued, id AS run, out, factory, ca_name,
  lower(hex(ca_serial)) AS ca_serial, lower(hex(ca_key_identifier)) AS ca_key_identifier, not_before, not_after
FROM hexed JOIN runs ON number = run;
"""


def open_database(path: Path, *, create: bool) -> sqlite3.Connection | None:
    """The ledger at `path`; None if there is none and none is to be made.

    Raises:
        LedgerError: it is something else, another version's, or cannot be opened.
    """
    if not os.path.lexists(path):
        if not create:
            return None
        _create(path)
    with telling(path):
        connection = _connect(path)
        try:
            _check(connection, path)
            connection.execute(_HELD_KEYS)
        except BaseException:
            connection.close()
            raise
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path))}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _create(path: Path) -> None:
    """Make a whole ledger under another name, and give it its own only if nothing else has that."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        new.unlink(missing_ok=True)
        os.close(create_file(new, PRIVATE_MODE))  # SQLite's companions of a file get its mode
        with closing(_connect(new)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(_SCHEMA + _HELD_KEYS)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        with suppress(FileExistsError):
            os.link(new, path)
        sync_directory(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"the ledger {path} cannot be made: {getattr(error, 'strerror', error)}") from None
    finally:
        with suppress(OSError):
            new.unlink()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    application, version, mode = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version", "journal_mode")
    )
    if application != _APPLICATION:
        raise LedgerError(f"{path} is a database, and no ledger", hint="--ledger names a file of its own")
    if version != _VERSION:
        raise LedgerError(
            f"the ledger {path} has version {version}, expected {_VERSION}",
            hint="use the version of batch-issuer that made it",
        )
    if mode != "wal":
        raise LedgerError(f"the ledger {path} must have the journal mode WAL; it has {mode}")


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """An error of the database becomes a sentence.

    Raises:
        LedgerError: it is damaged, full, or locked by someone who does not let go.
    """
    try:
        yield
    except sqlite3.Error as error:
        hint = "wait for the other run to end its plan" if "locked" in str(error) else None
        raise LedgerError(f"the ledger {path} cannot be used: {error}", hint=hint) from None


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; no other process writes meanwhile."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
