"""`registered.csv`: what became of each device at the API, appended as it happens, and what is read back of it."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import re
import stat
import time
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from batch_issuer.devices import UUID_TEXT
from batch_issuer.errors import OutputError
from batch_issuer.factory_api.devices import Outcome, Registration
from batch_issuer.files import PUBLIC_MODE, create_file, sync_directory, write_all
from batch_issuer.output.spreadsheet import safe_text

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

__all__ = ["REGISTERED", "Journal", "RegisteredRows"]

REGISTERED = "registered.csv"
"""The file's name below OUT. A later line about a device replaces an earlier one about it at the same API."""

_COLUMNS = ("row", "device_uuid", "outcome", "status", "message", "api")
_HEADER = (",".join(_COLUMNS) + "\n").encode()
_OPEN = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SYNC_SECONDS = 1.0
_HINT = "move it away and register again: what the API has already is seen as existing"


class RegisteredRows:
    """Which devices an API has, by the lines of the file: 9 octets per row of the manifest.

    Args:
        rows: of the input manifest.
        api: the API's base address; lines about others do not count.
    """

    def __init__(self, rows: int, api: str) -> None:
        self._api = api
        self._registered = bytearray(rows + 1)
        self._uuids = array("Q", bytes(8 * (rows + 1)))

    def read(self, file: BinaryIO) -> int:
        """Take in a file's lines; returns the octets of whole lines. A line that a kill cut off is passed over.

        Raises:
            OutputError: a whole line is none of this file's.
        """
        read = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            if not (line == _HEADER if number == 1 else self._take(line)):
                raise OutputError(f"line {number} of {REGISTERED} is damaged, or of another run", hint=_HINT)
            read += len(line)
        return read

    def has(self, row: int, device_uuid: str) -> bool:
        """Whether the API has the device of this row of the manifest.

        Raises:
            OutputError: the file has another device at that row.
        """
        if not self._registered[row]:
            return False
        if self._uuids[row] != _short(device_uuid):
            raise OutputError(f"row {row} of {REGISTERED} is another device than in the output manifest", hint=_HINT)
        return True

    def _take(self, line: bytes) -> bool:
        try:
            [(row_text, device_uuid, outcome, _status, _message, api)] = csv.reader([line.decode()])
            row, registered = int(row_text), Outcome(outcome).registered
        except (ValueError, csv.Error):
            return False
        if not 1 <= row < len(self._registered) or not re.fullmatch(UUID_TEXT, device_uuid):
            return False
        if api == self._api:
            self._registered[row] = registered
            self._uuids[row] = _short(device_uuid)
        return True


class Journal:
    """The file, open for one process alone; a context manager. The hold ends with the process, however that ends.

    Args:
        path: the file; made if it is not there.
        known: takes in what it says.
        api: the API's base address, for new lines.

    Raises:
        OutputError: another process registers, or the file is not what it should be.
        OSError: from any method, as open(2), write(2), fsync(2). An fsync that failed is never tried again.
    """

    def __init__(self, path: Path, known: RegisteredRows, *, api: str) -> None:
        self._api = api
        self._fd = _open(path)
        self._synced = time.monotonic()
        try:
            with open(self._fd, "rb", closefd=False) as file:
                whole = known.read(file)
            if whole < os.fstat(self._fd).st_size:
                os.ftruncate(self._fd, whole)
            if not whole:
                write_all(self._fd, _HEADER)
            os.fsync(self._fd)
            sync_directory(path.parent)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if not isinstance(failure, type) or not issubclass(failure, OSError):
                os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def append(self, row: int, device_uuid: str, registration: Registration) -> None:
        """Add what became of a device: safe from a kill at once, from a power cut within about a second."""
        text = io.StringIO()
        # What the server says could be a formula, and such files are opened in spreadsheets.
        message = safe_text(registration.message)
        cells = (row, device_uuid, registration.outcome, registration.status, message, self._api)
        csv.writer(text, lineterminator="\n").writerow(cells)
        write_all(self._fd, text.getvalue().encode())
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            os.fsync(self._fd)
            self._synced = time.monotonic()


def _open(path: Path) -> int:
    with suppress(FileExistsError):
        os.close(create_file(path, PUBLIC_MODE))
    try:
        fd = os.open(path, _OPEN)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from None
    try:
        _hold(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _hold(fd: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OutputError(f"{path} is not a regular file")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        wrong = f"another process registers the devices of {path.parent}"
        raise OutputError(wrong, hint="wait for it to end") from None


def _short(device_uuid: str) -> int:
    """The first 8 octets of a UUID: enough to tell one run's devices from another's."""
    return int(device_uuid.replace("-", "")[:16], 16)
