"""The server's SQLite file: made with its owner's mode, opened by one process, changed by whole transactions."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batch_issuer.errors import BatchIssuerError, RefusedError
from batch_issuer.files import PRIVATE_MODE, create_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Database"]

_APPLICATION = 0x42494757
"""`BIGW` in the file's header, so that another program's database is told from ours (SQLite file format, 1.3)."""

_VERSION = 1

_SCHEMA = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pki (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE devices (
    uuid TEXT PRIMARY KEY COLLATE NOCASE,
    name TEXT NOT NULL,
    device_group TEXT,
    public_key TEXT NOT NULL,
    production INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    last_seen INTEGER,
    denied INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE UNIQUE INDEX device_names ON devices (name) WHERE denied = 0;
"""


class Database:
    """The file of one factory's server.

    A commit survives the end of the process however it comes; only `durable` ones are sure to survive a power cut,
    because an fsync per device's first contact would be all that the gateway does.

    Args:
        path: the file, made if it is missing.
        factory: whose it is.

    Raises:
        RefusedError: it is something else, of another version or another factory's.
        BatchIssuerError: it cannot be read or written.
        OSError: it cannot be made; from any method: there is no room for a change of it, ENOSPC.
    """

    def __init__(self, path: Path, factory: str) -> None:
        if not os.path.lexists(path):
            os.close(create_file(path, PRIVATE_MODE))  # SQLite gives its journal the same mode
        self._path = path
        with _told(path):
            self._connection = sqlite3.connect(path, isolation_level=None)
            try:
                self._prepare(factory)
            except BaseException:
                self.close()
                raise

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Do one statement of SQL."""
        try:
            return self._connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path)) from None
            raise

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All of the block's changes or none.

        Args:
            durable: whether they are on the disk when the block has ended.
        """
        if durable:
            self.execute("PRAGMA synchronous = FULL")
        try:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself rolls back when the disk is full, say
                    self.execute("ROLLBACK")
                raise
        finally:
            if durable:
                self.execute("PRAGMA synchronous = NORMAL")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _prepare(self, factory: str) -> None:
        self.execute("PRAGMA busy_timeout = 2000")
        application = self._number("application_id")
        empty = not self._number("schema_version")
        if not empty and application != _APPLICATION:
            raise RefusedError(f"{self._path} must be a database of this command; it is another program's")
        if not empty and self._number("user_version") != _VERSION:
            raise RefusedError(f"{self._path} must have version {_VERSION}; it has {self._number('user_version')}")
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")
        if empty:
            with self.transaction(durable=True):
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self.execute(statement)
                self.execute("INSERT INTO about VALUES ('factory', ?)", (factory,))
                self.execute(f"PRAGMA application_id = {_APPLICATION}")
                self.execute(f"PRAGMA user_version = {_VERSION}")
        [(known,)] = self.execute("SELECT value FROM about WHERE name = 'factory'")
        if known != factory:
            raise RefusedError(
                f"{self._path} must be of the factory {factory!r}; it is of {known!r}",
                hint="--data names the folder of one factory's server",
            )

    def _number(self, pragma: str) -> int:
        [(value,)] = self.execute(f"PRAGMA {pragma}")
        return int(value)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What SQLite says of a file as the errors of this package: a file that is none of ours, or one out of reach."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # a table that is not there
            raise _foreign(path, error) from None
        raise BatchIssuerError(f"the server's database {path} cannot be read and written: {error}") from None
    except sqlite3.DatabaseError as error:
        raise _foreign(path, error) from None


def _foreign(path: Path, error: sqlite3.Error) -> RefusedError:
    return RefusedError(f"{path} must be a database of this command; it cannot be used: {error}")
