"""What the packed formats share: one private file per part, renamed whole into place."""

from __future__ import annotations

import os
import stat
from abc import ABC, abstractmethod
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING

from batch_issuer.bundles.format import Footprint, Staged
from batch_issuer.errors import BundleError
from batch_issuer.files import PRIVATE_MODE, create_file, sync_directory, write_all
from batch_issuer.sums import BUNDLES, sum_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from batch_issuer.bundles.contents import Bundle, PartBundles
    from batch_issuer.files import Octets

__all__ = ["PackedFormat", "open_part"]


class PackedFormat(ABC):
    """A part is one file, `<part name><suffix>`, mode 0600."""

    name: str
    suffix: str

    @abstractmethod
    def pieces(self, part: PartBundles) -> Iterator[Octets]:
        """The octets of the part's file, piece after piece; none of them changes later."""

    @abstractmethod
    def octets(self, devices: int, certificate: int, root: int, sota: int) -> int:
        """The octets that so many devices take, with DER and text of these sizes."""

    @abstractmethod
    def bundles_in(self, file: BinaryIO, name: str, problems: tuple[str, ...]) -> Iterator[Bundle]:
        """The bundles of a part, in its order.

        Args:
            file: what `pieces` gave, seekable.
            name: what to call it in errors.
            problems: of its file, which are problems of each bundle in it.

        Raises:
            BundleError: it is not whole, or no such part.
        """

    def pour(self, part: PartBundles, sink: Callable[[Octets], None]) -> None:
        """Give the octets of the part's file to `sink`, piece after piece.

        Raises:
            OSError: as `sink` does.
        """
        for piece in self.pieces(part):
            sink(piece)

    def write(self, part: PartBundles, path: Path) -> tuple[int, str]:
        """Write the part's file, which must not exist, with its content durable.

        Returns:
            Its octets, and their SHA-256 in hex, taken as they go out.

        Raises:
            OSError: as open(2), write(2), fsync(2).
        """
        digest = sha256()
        fd = create_file(path, PRIVATE_MODE)

        def sink(octets: Octets) -> None:
            write_all(fd, octets)
            digest.update(octets)

        try:
            self.pour(part, sink)
            os.fsync(fd)
            return os.fstat(fd).st_size, digest.hexdigest()
        finally:
            os.close(fd)

    def read_file(self, path: Path) -> Iterator[Bundle]:
        """The bundles of a part's file, in its order.

        Raises:
            BundleError: it is not there, not whole, or no such part.
        """
        with open_part(path) as (file, problems):
            yield from self.bundles_in(file, path.name, problems)

    def stage(self, part: PartBundles, staging: Path, part_name: str) -> Staged:
        """Write the part below `staging`, durable under its name."""
        name = part_name + self.suffix
        octets, digest = self.write(part, staging / name)
        sync_directory(staging)
        line = sum_line(digest, f"{BUNDLES}/{name}").encode()
        return Staged(octets, [line, *[b""] * (len(part.device_uuids) - 1)])

    def published(self, bundles: Path, part_name: str, device_uuids: Sequence[bytes]) -> str | None:  # noqa: ARG002 - the format's seam
        """The part's file, if anything has its name."""
        name = part_name + self.suffix
        return name if os.path.lexists(bundles / name) else None

    def publish(self, staging: Path, bundles: Path, part_name: str, device_uuids: Sequence[bytes]) -> None:
        """Rename the staged file into place; done before, this does nothing."""
        name = part_name + self.suffix
        try:
            os.rename(staging / name, bundles / name)
        except FileNotFoundError:
            if not (bundles / name).is_file() or (bundles / name).is_symlink():
                raise BundleError(
                    f"{name} was committed with {len(device_uuids)} devices, and is neither staged nor published"
                ) from None

    def locations(self, part_name: str, device_uuids: Sequence[bytes]) -> list[str]:
        """Each device's place below the bundles folder: the part's file."""
        return [part_name + self.suffix] * len(device_uuids)

    def footprint(
        self, devices: int, parts: int, *, certificate: int, root: int, sota: int, block_size: int
    ) -> Footprint:
        """What a run takes on the disk."""
        return Footprint(self.octets(devices, certificate, root, sota) + parts * block_size, parts)

    def read(self, bundles: Path, location: str) -> Iterator[Bundle]:
        """The bundles stored at a location."""
        return self.read_file(bundles / location)


@contextmanager
def open_part(path: Path) -> Iterator[tuple[BinaryIO, tuple[str, ...]]]:
    """A part's file, opened without following a link, and what is wrong with its mode.

    Raises:
        BundleError: it is not there, or no regular file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BundleError(f"{path.name} cannot be opened: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path.name} is not a regular file")
        mode = stat.S_IMODE(status.st_mode)
        wrong = mode != PRIVATE_MODE
        yield file, (f"the mode of {path.name} is {mode:04o}, expected {PRIVATE_MODE:04o}",) if wrong else ()
