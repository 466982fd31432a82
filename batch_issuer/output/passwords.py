"""`p12-passwords.csv`: the password that a run made for each device's PKCS#12 file, in the manifest's order.

SHA256SUMS has no line for it: the list is there to be moved away from the bundles that it opens, and
`sha256sum --check` fails when a file that it lists is gone.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from batch_issuer.errors import OutputError
from batch_issuer.files import PRIVATE_MODE, create_file, write_all
from batch_issuer.output.rows import read_commit

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from batch_issuer.files import Octets
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord

__all__ = ["PER_DEVICE", "PER_RUN", "PasswordsWriter", "password_lines", "read_passwords"]

PER_RUN, PER_DEVICE = "run", "device"
"""What `run.json` says of a PKCS#12 run's passwords: one that was given for all; or one made for each device."""

_HEADER = b"device_uuid,password\n"
_LINE = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}),([!-+\--~]+)")
"""A UUID and a password of printable ASCII without a comma: what needs no quotes."""


def password_lines(device_uuids: Iterable[bytes], passwords: Iterable[bytes]) -> list[bytes]:
    """The line of each device."""
    return [b"%b,%b\n" % pair for pair in zip(device_uuids, passwords, strict=True)]


class PasswordsWriter:
    """Writes the list into a new file of mode 0600, and makes its content durable when it is closed.

    Args:
        path: the file, which must not exist.

    Raises:
        OSError: from any method, as open(2), write(2) and fsync(2).
    """

    def __init__(self, path: Path) -> None:
        self._fd = create_file(path, PRIVATE_MODE)

    def __enter__(self) -> PasswordsWriter:
        write_all(self._fd, _HEADER)
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                os.fsync(self._fd)
        finally:
            os.close(self._fd)

    def write(self, lines: Octets) -> None:
        """Add whole lines."""
        write_all(self._fd, lines)


def read_passwords(folder: OutputFolder, record: RunRecord, path: Path | None = None) -> dict[str, bytes]:
    """The password of each device, by its UUID in lower case, in the list's order.

    Args:
        folder: the run's.
        record: what was asked.
        path: the list, if it was moved away; None for the one in the folder, or, of a run that is not finished, what
            its commit records hold.

    Raises:
        OutputError: the list is not there, or is none; no text of it is shown.
    """
    if path is None and not folder.summary.exists():
        commits = (folder.commit(index) for index in range(record.parts))
        lines = [read_commit(commit).passwords for commit in commits if commit.exists()]
        return _parsed(_HEADER + b"".join(lines), str(folder.commits))
    where = path or folder.passwords
    try:
        text = where.read_bytes()
    except OSError as error:
        raise OutputError(
            f"the list of passwords {where} cannot be read: {error.strerror}",
            hint="--p12-passwords FILE says where it is now",
        ) from None
    return _parsed(text, str(where))


def _parsed(text: bytes, where: str) -> dict[str, bytes]:
    first, *rest = text.replace(b"\r\n", b"\n").splitlines() or [b""]
    if first + b"\n" != _HEADER:
        raise OutputError(f"{where} is no list of passwords: its first line must be {_HEADER.decode().strip()!r}")
    passwords: dict[str, bytes] = {}
    for number, line in enumerate(rest, start=2):
        match = _LINE.fullmatch(line)
        if match is None:
            raise OutputError(f"{where} is damaged: line {number} is not a UUID in lower case, a comma and a password")
        device_uuid = match[1].decode()
        if device_uuid in passwords:
            raise OutputError(f"{where} is damaged: line {number} has {device_uuid} again")
        passwords[device_uuid] = match[2]
    return passwords
