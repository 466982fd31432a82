"""The story of one export: a finished run's devices, read one after the other, into files of a target's size.

1. The run is read; only a finished one is exported, so that the same command always makes the same files.
2. Each file is written below `.export`, synced, and linked into place: it is there whole or not at all, and takes no
   other file's name. One that is there already with the same content is left as it is, so that an export that was
   stopped is simply made again.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

from batch_issuer.bundles.sealed import readable_format
from batch_issuer.errors import OutputError, RefusedError, RunFailedError
from batch_issuer.files import PRIVATE_MODE, make_directories, scratch_folder, write_first
from batch_issuer.issued import StoredCertificates, issued_devices
from batch_issuer.output.folder import OutputFolder
from batch_issuer.output.record import read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.exporting.targets import Target
    from batch_issuer.issued import IssuedRow
    from batch_issuer.output.record import RunRecord

__all__ = ["Export", "Observer", "export_run"]

_AT_ONCE = 1000
"""Lines that are encoded and written together: about a megabyte."""


class Observer(Protocol):
    """Who watches an export."""

    def begin(self, devices: int) -> None:
        """So many devices will be written."""

    def advance(self, devices: int) -> None:
        """So many more are written."""

    def end(self) -> None:
        """No more come."""


@dataclass(frozen=True, slots=True)
class Export:
    """What came of it.

    Attributes:
        target: for whom.
        to: the folder of the files.
        devices: how many.
        files: the files' names, in the order of the devices; last those beside them.
        written: how many of the files are new; the others were there already, the same.
    """

    target: str
    to: str
    devices: int
    files: tuple[str, ...]
    written: int


def export_run(
    out: Path,
    target: Target,
    to: Path,
    observer: Observer,
    *,
    identities: AgeIdentities | None = None,
    passwords: PasswordOf | None = None,
) -> Export:
    """Write a run's devices into `to`, for `target`: files of mode 0600, with no private key in them.

    Args:
        out: the run's output folder.
        target: who imports them.
        to: a folder; made if it is not there.
        observer: told how it goes.
        identities: what opens sealed bundles, where the manifest has no certificates.
        passwords: what opens PKCS#12 bundles, where the manifest has no certificates.

    Raises:
        OutputError: there is no run, its manifest is damaged; `to` cannot be made, or another export writes to it.
        RefusedError: the run is unfinished, another file is in place, or a device cannot be imported there; or bundles
            are sealed, and there is no identity, or no right one.
        BundleError: a device's certificate cannot be read, or is not what the manifest says.
        RunFailedError: a file cannot be written, such as on a full disk.
    """
    folder = OutputFolder(out)  # 1
    record = read_record(folder.record)
    if not folder.summary.exists():
        raise RefusedError(
            f"the run in {out} is unfinished, and only a finished run is exported",
            hint="`batch-issuer issue --resume` finishes it",
        )
    certificates = StoredCertificates(folder, record, identities, passwords) if target.with_certificates else None
    if certificates is not None and not record.with_certificates:
        readable_format(record.format, record.seal_to, identities, passwords)  # refuses what cannot be read
    lines = _Lines(record, target, certificates, observer)
    with _Place(to) as place, _watched(observer, record.accepted):  # 2
        for index, devices in enumerate(_groups(issued_devices(folder, record), target.limit)):
            place.put(f"{target.name}-{index:05d}{target.suffix}", chain([target.header.encode()], lines.of(devices)))
        for name, text in target.beside(record).items():
            place.put(name, [text.encode()])
    if lines.devices != record.accepted:
        raise OutputError(
            f"the output manifest has {lines.devices} devices, and {record.accepted} were issued",
            hint="`batch-issuer verify` tells what is wrong with this run; do not use these files",
        )
    return Export(target.name, str(to), lines.devices, tuple(place.names), place.written)


@contextmanager
def _watched(observer: Observer, devices: int) -> Iterator[None]:
    observer.begin(devices)
    try:
        yield
    finally:
        observer.end()


def _groups(devices: Iterator[IssuedRow], limit: int | None) -> Iterator[Iterator[IssuedRow]]:
    """The devices, `limit` at a time; each group is to be used up before the next is taken."""
    for first in devices:
        yield chain([first], devices if limit is None else islice(devices, limit - 1))


class _Lines:
    def __init__(
        self, record: RunRecord, target: Target, certificates: StoredCertificates | None, observer: Observer
    ) -> None:
        self.devices = 0
        self._record = record
        self._target = target
        self._observer = observer
        self._certificates = certificates

    def of(self, devices: Iterator[IssuedRow]) -> Iterator[bytes]:
        """The lines of some devices, many at a time."""
        while taken := list(islice(devices, _AT_ONCE)):
            lines = [self._target.line(self._record, device, self._certificate(device)) for device in taken]
            yield "".join(lines).encode()
            self.devices += len(taken)
            self._observer.advance(len(taken))

    def _certificate(self, device: IssuedRow) -> str:
        return "" if self._certificates is None else self._certificates.of(device)


class _Place:
    """The folder of the files; a context manager. Nothing is overwritten in it."""

    def __init__(self, to: Path) -> None:
        self.names: list[str] = []
        self.written = 0
        self._to = to
        self._scratch = to / ".export"

    def __enter__(self) -> _Place:
        try:
            make_directories(self._to)
            self._hold = scratch_folder(self._scratch)
            self._hold.__enter__()
        except BlockingIOError:
            raise OutputError(f"another export writes to {self._to}", hint="wait for it to end") from None
        except OSError as error:
            raise OutputError(f"the folder {self._to} cannot be made or used: {error.strerror}") from None
        return self

    def __exit__(self, *failure: object) -> None:
        self._hold.__exit__(None, None, None)

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        """One file, whole and durable, unless it is there already with the same content."""
        new, final, digest = self._scratch / name, self._to / name, sha256()

        def hashed() -> Iterator[bytes]:
            for chunk in chunks:
                digest.update(chunk)
                yield chunk

        with _told(final):
            if write_first(final, hashed(), PRIVATE_MODE, temporary=new):
                self.written += 1
            elif _digest_of(final) != digest.digest():
                raise RefusedError(
                    f"{final} is there already, and is another", hint="take another --to, or move it away"
                )
        self.names.append(name)


def _digest_of(path: Path) -> bytes | None:
    """The SHA-256 of a regular file; None of anything else."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file_digest(file, "sha256").digest()
    except OSError:
        return None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = "make space, and do it again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        raise RunFailedError(f"{path} cannot be written: {error.strerror}", hint=hint) from error
