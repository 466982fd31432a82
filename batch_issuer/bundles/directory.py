"""A folder per device, as it is copied to `/var/sota`: the convenient format, and the slow one."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

from batch_issuer.bundles.contents import (
    CERTIFICATE,
    FILE_MODES,
    PRIVATE_KEY,
    ROOT,
    SOTA_TOML,
    Bundle,
    certificate_pem,
    private_key_pem,
)
from batch_issuer.bundles.format import Footprint, Staged
from batch_issuer.errors import BundleError
from batch_issuer.files import DIRECTORY_MODE, create_file, make_directory, sync_filesystem, write_all
from batch_issuer.sums import BUNDLES, sum_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from batch_issuer.bundles.contents import PartBundles

__all__ = ["DirectoryFormat", "write_device"]

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LARGEST_FILE = 1 << 20


class DirectoryFormat:
    """`<uuid>/` with its files; folders 0700, files as on the device."""

    name = "dir"

    def stage(self, part: PartBundles, staging: Path, part_name: str) -> Staged:
        """Make the part's folders below `staging/<part name>/`; one syncfs makes all of them durable."""
        make_directory(staging / part_name)
        folder = os.open(staging / part_name, _OPEN_DIRECTORY)
        try:
            staged = _write_devices(part, folder)
            sync_filesystem(folder)
        finally:
            os.close(folder)
        return staged

    def published(self, bundles: Path, part_name: str, device_uuids: Sequence[bytes]) -> str | None:  # noqa: ARG002 - the format's seam
        """The first of the part's folders whose name anything has."""
        names = (uuid.decode() for uuid in device_uuids)
        return next((name for name in names if os.path.lexists(bundles / name)), None)

    def publish(self, staging: Path, bundles: Path, part_name: str, device_uuids: Sequence[bytes]) -> None:
        """Rename each device's folder into place; nothing that has the name there is followed."""
        names = [uuid.decode() for uuid in device_uuids]
        target = os.open(bundles, _OPEN_DIRECTORY)
        try:
            try:
                source = os.open(staging / part_name, _OPEN_DIRECTORY)
            except FileNotFoundError:
                _expect_published(target, names)
                return
            try:
                for name in names:
                    _rename(name, source, target)
            finally:
                os.close(source)
        finally:
            os.close(target)
        with suppress(FileNotFoundError):  # another process published the part, too
            os.rmdir(staging / part_name)

    def locations(self, part_name: str, device_uuids: Sequence[bytes]) -> list[str]:  # noqa: ARG002 - the format's seam
        """Each device's folder."""
        return [uuid.decode() for uuid in device_uuids]

    def footprint(
        self, devices: int, parts: int, *, certificate: int, root: int, sota: int, block_size: int
    ) -> Footprint:
        """What a run takes on the disk: a block or more for each file and folder."""
        sizes = (227, certificate * 4 // 3 + 80, root * 4 // 3 + 80, *([sota] if sota else []))
        blocks = 1 + sum(-(-size // block_size) for size in sizes)
        return Footprint(devices * blocks * block_size, devices * (1 + len(sizes)) + parts)

    def read(self, bundles: Path, location: str) -> Iterator[Bundle]:
        """The one bundle of a device's folder.

        Raises:
            BundleError: there is no such folder.
        """
        try:
            folder = os.open(bundles / location, _OPEN_DIRECTORY)
        except OSError as error:
            raise BundleError(f"{location} cannot be opened as a folder: {error.strerror}") from None
        try:
            yield _read_device(folder, location)
        finally:
            os.close(folder)


def write_device(folder: int, name: str, files: Iterable[tuple[str, bytes]]) -> int:
    """Make a device's folder below `folder` (a descriptor) with its files, not yet durable; returns their octets.

    Raises:
        OSError: as mkdir(2), open(2), write(2); FileExistsError when the name is taken.
    """
    make_directory(name, dir_fd=folder)
    written = 0
    for file_name, content in files:
        fd = create_file(f"{name}/{file_name}", FILE_MODES[file_name], dir_fd=folder)
        try:
            write_all(fd, content)
        finally:
            os.close(fd)
        written += len(content)
    return written


def _write_devices(part: PartBundles, folder: int) -> Staged:
    root = certificate_pem(part.root)
    sota_texts = part.sota_toml or [b""] * len(part.device_uuids)
    shared = {text: sha256(text).hexdigest() for text in {root, *sota_texts}}
    written, sums = 0, []
    rows = zip(part.device_uuids, part.private_keys, part.certificates, sota_texts, strict=True)
    for device_uuid, private_key, certificate, sota in rows:
        own = [(CERTIFICATE, certificate_pem(certificate))]
        if private_key is not None:
            own.insert(0, (PRIVATE_KEY, private_key_pem(private_key)))
        common = [(ROOT, root), (SOTA_TOML, sota)] if sota else [(ROOT, root)]
        name = device_uuid.decode()
        written += write_device(folder, name, own + common)
        place = f"{BUNDLES}/{name}/"
        lines = [sum_line(sha256(content).hexdigest(), place + file_name) for file_name, content in own]
        lines += [sum_line(shared[content], place + file_name) for file_name, content in common]
        sums.append("".join(lines).encode())
    return Staged(written, sums)


def _rename(name: str, source: int, target: int) -> None:
    try:
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    except FileNotFoundError:
        _expect_published(target, [name])
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            raise
        raise BundleError(
            f"bundles/{name} is taken by something that this run did not put there: {error.strerror}",
            hint="move it away and resume; nothing of it was followed or changed",
        ) from None


def _expect_published(target: int, names: Sequence[str]) -> None:
    for name in names:
        try:
            there = stat.S_ISDIR(os.stat(name, dir_fd=target, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            there = False
        if not there:
            raise BundleError(f"the bundle of {name} was committed, and is neither staged nor published")


def _read_device(folder: int, location: str) -> Bundle:
    files, problems = {}, []
    above = os.fstat(folder)
    mode = stat.S_IMODE(above.st_mode)
    if mode != DIRECTORY_MODE:
        problems.append(f"the mode of {location}/ is {mode:04o}, expected {DIRECTORY_MODE:04o}")
    for name in sorted(os.listdir(folder)):
        if name not in FILE_MODES:
            problems.append(f"{location}/{name} does not belong there")
            continue
        try:
            files[name], status = _read_file(name, folder)
        except OSError as error:
            problems.append(f"{location}/{name} is not a regular file that can be read: {error.strerror}")
            continue
        mode = stat.S_IMODE(status.st_mode)
        if mode != FILE_MODES[name]:
            problems.append(f"the mode of {location}/{name} is {mode:04o}, expected {FILE_MODES[name]:04o}")
        if status.st_nlink != 1:
            problems.append(f"{location}/{name} has {status.st_nlink} names in the file system, expected 1")
        if status.st_uid != above.st_uid:
            problems.append(f"the owner of {location}/{name} is {status.st_uid}, that of its folder {above.st_uid}")
    return Bundle(location.rpartition("/")[2], files, tuple(problems))


def _read_file(name: str, folder: int) -> tuple[bytes, os.stat_result]:
    fd = os.open(name, _OPEN_FILE, dir_fd=folder)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is of another kind")
        if status.st_size > _LARGEST_FILE:
            raise OSError(0, "it is larger than any bundle's file")
        return os.read(fd, status.st_size), status
    finally:
        os.close(fd)
