"""A part as one tar in zstd (RFC 8878): what tar writes ten times, once; GNU tar, bsdtar and zstd read it."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_issuer.bundles.packed import PiecewiseFormat
from batch_issuer.bundles.tar import TarFormat
from batch_issuer.errors import BundleError, RefusedError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from _typeshed import WriteableBuffer

    from batch_issuer.bundles.contents import Bundle, PartBundles

__all__ = ["CompressedTarFormat"]

_CODEC = "zstd"
_LEVEL = -2
"""Takes half of the time of level 1, for 480 octets a device and not 380."""

_READ_AHEAD = 1 << 16

_SLACK = 4096
_SHRINKS = 7
"""How many times smaller than its tar a part is taken to be; measured were 8 to 13. Keys, serial numbers and signatures
do not shrink: 230 octets of a device's 6 kB. Nor do texts in `sota.toml` of which every row has another."""

_MOST_PER_OCTET = 100
"""Octets that an octet of a part may unpack to: many times what a good part's do, and nothing of what zstd's can."""


class CompressedTarFormat(PiecewiseFormat):
    """`part-00000.tar.zst`, mode 0600: the tar of `TarFormat`, each of its pieces as a zstd frame of its own.

    Raises:
        RefusedError: this pyarrow was built without zstd.
    """

    name = "tar.zst"
    suffix = ".tar.zst"

    def __init__(self) -> None:
        if not pa.Codec.is_available(_CODEC):
            raise RefusedError("this pyarrow was built without zstd", hint="pip install pyarrow, whose wheels have it")
        self._tar = TarFormat()
        self._codec = pa.Codec(_CODEC, compression_level=_LEVEL)

    def pieces(self, part: PartBundles) -> Iterator[bytes]:
        """The frames, one after the other: a zstd file may have many (RFC 8878 section 3)."""
        for piece in self._tar.pieces(part):
            yield self._codec.compress(piece, asbytes=True)

    def octets(self, devices: int, certificate: int, root: int, sota: int) -> int:
        """The file's size for so many devices with parts of these DER and text sizes, rounded up."""
        return self._tar.octets(devices, certificate, root, sota) // _SHRINKS + _SLACK

    def bundles_in(self, file: BinaryIO, name: str, problems: tuple[str, ...]) -> Iterator[Bundle]:
        """The part's bundles, in its order; what is unpacked is never all in memory.

        Frames that hold nothing, or that zstd's readers skip, are passed over; a window may take 128 MiB.

        Raises:
            BundleError: it is no zstd file, is cut off, unpacks to too much, or what is in it is no such tar.
        """
        most = file.seek(0, os.SEEK_END) * _MOST_PER_OCTET + _SLACK
        file.seek(0)
        try:
            with io.BufferedReader(_Unpacked(file, most), _READ_AHEAD) as unpacked:
                yield from self._tar.bundles_in(unpacked, name, problems)
        except (pa.ArrowException, OSError) as error:
            wrong = "cannot be read" if getattr(error, "errno", None) else "is not a whole zstd file"
            raise BundleError(f"{name} {wrong}: {reason_of(error)}") from None


class _Unpacked(io.RawIOBase):
    """What a zstd file unpacks to, as a file; an OSError where that is more than `most` octets."""

    def __init__(self, packed: BinaryIO, most: int) -> None:
        self._stream = pa.CompressedInputStream(packed, _CODEC)
        self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        count: int = self._stream.readinto(buffer)
        self._left -= count
        if self._left < 0:
            raise OSError(f"an octet of it unpacks to more than {_MOST_PER_OCTET}")
        return count
