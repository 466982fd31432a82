"""A folder per device, as it is copied to `/var/sota`: the convenient format, and the slow one."""

from __future__ import annotations

import os
import stat
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
from batch_issuer.bundles.separate import OPEN_DIRECTORY, SeparateFormat, file_problems, read_file
from batch_issuer.errors import BundleError
from batch_issuer.files import DIRECTORY_MODE, create_file, make_directory, write_all
from batch_issuer.sums import BUNDLES, sum_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from batch_issuer.bundles.contents import PartBundles

__all__ = ["DirectoryFormat", "write_device"]


class DirectoryFormat(SeparateFormat):
    """`<uuid>/` with its files; folders 0700, files as on the device."""

    name = "dir"
    suffix = ""
    kind = stat.S_IFDIR

    def write(self, part: PartBundles, folder: int) -> Staged:
        """Make the part's folders below `folder`."""
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
            folder = os.open(bundles / location, OPEN_DIRECTORY)
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
            files[name], status = read_file(name, folder)
        except OSError as error:
            problems.append(f"{location}/{name} is not a regular file that can be read: {error.strerror}")
            continue
        problems += file_problems(f"{location}/{name}", status, FILE_MODES[name], above)
    return Bundle(location, files, tuple(problems))
