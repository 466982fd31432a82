"""Sealed parts: any packed format inside age, encrypted as it is made and opened in memory alone.

No octet of a part reaches a file in the clear: what the format makes goes piece after piece through pyrage, and only
what comes out of that goes into the file. The format: https://age-encryption.org/v1 (C2SP `age.md`).
"""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from batch_issuer.bundles.format import bundle_format
from batch_issuer.bundles.packed import PackedFormat, PiecewiseFormat
from batch_issuer.bundles.recipients import need_age, open_recipients
from batch_issuer.errors import BundleError, IdentityError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from batch_issuer.bundles.contents import Bundle, PartBundles
    from batch_issuer.bundles.format import BundleFormat, Footprint, PasswordOf
    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.files import Octets

__all__ = ["SEALED", "SealedFormat", "readable_format", "stored_as", "writable_format"]

SEALED = ".age"
"""What the names of sealed parts end with."""

_MAGIC = b"age-encryption.org/v1\n"
"""How an age file begins."""

_CHUNK, _TAG = 1 << 16, 16
"""Octets of the payload that are encrypted together, and by how many each such chunk grows."""

_HEADER = 512
_STANZA = 1024
"""Octets of a header, and of one recipient in it, at most: an RSA key of 4096 bits takes some 750."""

_SEALED_AS = {"tar": "tar.zst"}
"""What is compressed before it is encrypted: a tenth of the octets to encrypt, and none of them would shrink later."""

_NO_MATCH = "No matching keys found"
"""What pyrage says when no identity fits, and of nothing else."""


def stored_as(name: str, *, sealed: bool) -> str:
    """The format that a run's bundles have which was asked for as `name`."""
    return _SEALED_AS.get(name, name) if sealed else name


def writable_format(name: str, seal_to: Sequence[str]) -> BundleFormat:
    """The format called `name`; with recipients, sealed to them.

    Raises:
        RefusedError: there is none of that name, it is not packed and cannot be sealed, a recipient is none, or pyrage
            is not installed.
    """
    return SealedFormat(_packed(name), seal_to) if seal_to else bundle_format(name)


def readable_format(
    name: str, seal_to: Sequence[str], identities: AgeIdentities | None, passwords: PasswordOf | None = None
) -> BundleFormat:
    """The format called `name`, to be read; if it was sealed, by these identities; if it takes passwords, by these.

    Raises:
        RefusedError: as `writable_format`, or it was sealed and there is no identity.
    """
    if seal_to and identities is None:
        raise RefusedError(
            f"this run's bundles are sealed, and need an identity of {_listed(seal_to)}; there is none",
            hint="give it by --identity FILE; without it, `sha256sum --check SHA256SUMS` in the output folder shows "
            "whether the sealed parts are as they were written",
        )
    return SealedFormat(_packed(name), seal_to, identities) if seal_to else bundle_format(name, passwords)


def _packed(name: str) -> PiecewiseFormat:
    stored = bundle_format(name)
    if not isinstance(stored, PiecewiseFormat):
        raise RefusedError(
            f"bundles are sealed part by part, and format {stored.name!r} has no file per part",
            hint="take --format tar, tar.zst or parquet with --seal-to",
        )
    return stored


def _listed(recipients: Sequence[str]) -> str:
    more = f" or {len(recipients) - 1} more" if len(recipients) > 1 else ""
    return recipients[0] + more


class SealedFormat(PackedFormat):
    """A packed format's file inside age: `part-00000.tar.zst.age`, mode 0600.

    Args:
        inner: the format.
        seal_to: whom for; see `checked_recipients`.
        identities: what opens it; None when it is only written.
    """

    def __init__(self, inner: PiecewiseFormat, seal_to: Sequence[str], identities: AgeIdentities | None = None) -> None:
        need_age()
        self.name = inner.name
        self.suffix = inner.suffix + SEALED
        self._inner = inner
        self._seal_to = tuple(seal_to)
        self._recipients = open_recipients(seal_to)
        self._identities = identities

    def pour(self, part: PartBundles, sink: Callable[[Octets], None]) -> None:
        """Give the age file's octets to `sink`, as the format's own pieces are made: the part is never whole in memory.

        Raises:
            OSError: as `sink` does.
            BundleError: pyrage cannot seal.
        """
        import pyrage  # noqa: PLC0415 - an extra

        source, target = _Source(self._inner.pieces(part)), _Target(sink)
        try:
            pyrage.encrypt_io(source, target, self._recipients)
        except pyrage.EncryptError as error:
            # pyrage makes a text of what the streams raised; the run must see that itself, with its errno.
            raise source.failure or target.failure or BundleError(f"a part cannot be sealed: {error}") from None

    def octets(self, devices: int, certificate: int, root: int, sota: int) -> int:
        """The octets that so many devices take, without the header of each part."""
        clear = self._inner.octets(devices, certificate, root, sota)
        return clear + (clear // _CHUNK + 1) * _TAG

    def footprint(
        self, devices: int, parts: int, *, certificate: int, root: int, sota: int, block_size: int
    ) -> Footprint:
        """What a run takes on the disk."""
        clear = super().footprint(devices, parts, certificate=certificate, root=root, sota=sota, block_size=block_size)
        headers = parts * (_HEADER + _STANZA * len(self._recipients))
        return replace(clear, octets=clear.octets + headers)

    def bundles_in(self, file: BinaryIO, name: str, problems: tuple[str, ...]) -> Iterator[Bundle]:
        """The part's bundles, in its order; the part is opened in memory.

        Raises:
            IdentityError: it is sealed to none of the identities.
            BundleError: it is no age file, is cut off or changed, or what is in it is no such part.
        """
        clear = io.BytesIO(self._opened(file.read(), name))
        yield from self._inner.bundles_in(clear, f"{name}, opened,", problems)

    def _opened(self, sealed: bytes, name: str) -> bytes:
        import pyrage  # noqa: PLC0415 - an extra

        if not sealed.startswith(_MAGIC):
            raise BundleError(f"{name} must be an age file, which begins with {_MAGIC.decode().strip()}; it does not")
        try:
            clear: bytes = pyrage.decrypt(sealed, self._keys)
        except pyrage.DecryptError as error:
            if str(error) == _NO_MATCH:
                raise IdentityError(
                    f"{name} must be sealed to an identity that was given; it is to none of the {len(self._keys)}",
                    hint=f"the run was sealed to {_listed(self._seal_to)}; give that one's identity by --identity",
                ) from None
            raise BundleError(f"{name} is cut off or changed since it was sealed: age says {str(error)!r}") from None
        return clear

    @cached_property
    def _keys(self) -> list[Any]:
        if self._identities is None:
            raise RefusedError("a sealed part is read by an identity, and there is none", hint="give it by --identity")
        return self._identities.open()


class _Source:
    """Pieces as a file that is read."""

    def __init__(self, pieces: Iterator[Octets]) -> None:
        self.failure: BaseException | None = None
        self._pieces = pieces
        self._piece, self._at = memoryview(b""), 0

    def read(self, most: int) -> bytes:
        """The next octets, at most so many; none at the end."""
        try:
            while self._at == len(self._piece):
                piece = next(self._pieces, None)
                if piece is None:
                    return b""
                self._piece, self._at = memoryview(piece).cast("B"), 0  # Arrow has signed octets
        except BaseException as error:
            self.failure = error
            raise
        octets = bytes(self._piece[self._at : self._at + most])
        self._at += len(octets)
        return octets


class _Target:
    """A sink as a file that is written."""

    def __init__(self, sink: Callable[[Octets], None]) -> None:
        self.failure: BaseException | None = None
        self._sink = sink

    def write(self, octets: bytes) -> int:
        """Take octets, all of them."""
        try:
            self._sink(octets)
        except BaseException as error:
            self.failure = error
            raise
        return len(octets)

    def flush(self) -> None:
        """Nothing waits here."""
