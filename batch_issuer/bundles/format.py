"""How the bundles of a part are stored: what every format can do, and the formats by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from batch_issuer.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from batch_issuer.bundles.contents import Bundle, PartBundles

__all__ = ["FORMAT_NAMES", "PASSWORD_FORMAT", "BundleFormat", "Footprint", "PasswordOf", "Staged", "bundle_format"]

PASSWORD_FORMAT = "p12"  # noqa: S105 - a format's name
"""The format whose bundles are written and opened with passwords."""

PasswordOf: TypeAlias = "Callable[[str], bytes | None]"
"""Gives the password of a device's bundle by its UUID; None when it knows none. It may raise BatchIssuerError."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a run takes on the disk.

    Attributes:
        octets: in files, rounded up to the file system's blocks where files are small.
        inodes: files and folders.
    """

    octets: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Staged:
    """A part that is stored and not yet published.

    Attributes:
        octets: of its files.
        sums: its lines of `SHA256SUMS`, for each device those of its files, in ASCII; of a packed part the one line
            stands at the first device, and nothing at the others.
    """

    octets: int
    sums: list[bytes]


class BundleFormat(Protocol):
    """One way to store the bundles of a part: first staged, durable; then, after the commit, published by renames."""

    name: str

    def stage(self, part: PartBundles, staging: Path, part_name: str) -> Staged:
        """Store the part below `staging`, all of it durable on return; hashed as it is written, and not read again.

        Args:
            part: what to store.
            staging: a folder of the caller's own; its own name is not made durable.
            part_name: what the part is called there.

        Raises:
            OSError: the disk is full or failed, or something has the part's name already.
        """

    def published(self, bundles: Path, part_name: str, device_uuids: Sequence[bytes]) -> str | None:
        """Something of the part that is in place already, by its name below the bundles folder; None if nothing is."""

    def publish(self, staging: Path, bundles: Path, part_name: str, device_uuids: Sequence[bytes]) -> None:
        """Move a staged part into place. Idempotent: done again, or twice at once, it does what is left to do.

        Raises:
            BundleError: a device's bundle is neither staged nor in place.
            OSError: as rename(2).
        """

    def locations(self, part_name: str, device_uuids: Sequence[bytes]) -> list[str]:
        """Where each device's bundle is, below the bundles folder."""

    def footprint(
        self, devices: int, parts: int, *, certificate: int, root: int, sota: int, block_size: int
    ) -> Footprint:
        """What a run takes on the disk.

        Args:
            devices: how many.
            parts: in how many parts.
            certificate: octets of a device certificate's DER.
            root: octets of the root certificate's DER.
            sota: octets of sota.toml; 0 for none.
            block_size: of the file system.
        """

    def read(self, bundles: Path, location: str) -> Iterator[Bundle]:
        """The bundles stored at one location, in its order, each with what is wrong with how it is stored.

        Raises:
            BundleError: nothing usable is there.
        """


_FORMATS = {
    "dir": ("batch_issuer.bundles.directory", "DirectoryFormat"),
    PASSWORD_FORMAT: ("batch_issuer.bundles.p12", "P12Format"),
    "parquet": ("batch_issuer.bundles.parquet", "ParquetFormat"),
    "tar": ("batch_issuer.bundles.tar", "TarFormat"),
    "tar.zst": ("batch_issuer.bundles.compressed", "CompressedTarFormat"),
}

FORMAT_NAMES = tuple(_FORMATS)


def bundle_format(name: str, password_of: PasswordOf | None = None) -> BundleFormat:
    """The format called `name`; its libraries are imported only now.

    Args:
        name: the format's.
        password_of: opens what it reads, if that takes a password.

    Raises:
        RefusedError: there is none of that name.
    """
    if name not in _FORMATS:
        raise RefusedError(f"format {name!r} is not known", hint=f"known formats: {', '.join(_FORMATS)}")
    module, attribute = _FORMATS[name]
    made = getattr(import_module(module), attribute)
    return cast("BundleFormat", made(password_of) if name == PASSWORD_FORMAT else made())
