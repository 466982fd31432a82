"""The manifest's octets as a file to be read again and again, wherever they come from."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from batch_issuer.errors import ManifestError
from batch_issuer.files import PRIVATE_MODE, write_all
from batch_issuer.stores.address import StoreAddress
from batch_issuer.stores.opening import open_store

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

    from batch_issuer.batch.request import RunRequest

__all__ = ["open_manifest"]

_COPY_CHUNK = 1 << 20


def open_manifest(request: RunRequest, spool: Path | None) -> BufferedReader:
    """The manifest's file, seekable; what is none is copied to `spool` first, or to memory without one.

    Raises:
        ManifestError: it cannot be opened.
        StoreError: the store that it is in refuses or fails.
        OSError: the copy cannot be written.
    """
    if request.manifest is None or isinstance(request.manifest, StoreAddress):
        return _copied(request.manifest, spool)
    try:
        file = request.manifest.open("rb")
    except OSError as error:
        raise ManifestError(f"the manifest {request.manifest} cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ManifestError(
            f"the manifest {request.manifest} is not a regular file",
            hint="a pipe's content goes in by standard input: --manifest -",
        )
    return file


def _copied(address: StoreAddress | None, spool: Path | None) -> BufferedReader:
    if spool is None:
        fd = os.memfd_create("manifest")
    else:
        spool.unlink(missing_ok=True)  # of a run that was killed
        fd = os.open(spool, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_MODE)
    copy = os.fdopen(fd, "rb")
    try:
        if address is None:
            while chunk := sys.stdin.buffer.read(_COPY_CHUNK):
                write_all(fd, chunk)
        else:
            _fetch(address, fd)
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


def _fetch(address: StoreAddress, fd: int) -> None:
    if not open_store(address.parent).copy(address.name, fd):
        raise ManifestError(f"the manifest {address} is not there")
