"""A part as one tar: `<uuid>/` with its files, for each device; any tar reads it.

The headers come from `tarfile`, once per kind, size and checksum; per device only the UUID is put before them. Built
anew by `tarfile` they would cost more than the certificate's signature.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, replace
from functools import lru_cache
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
from batch_issuer.bundles.packed import PackedFormat
from batch_issuer.devices import UUID_LENGTH, CertificateDer
from batch_issuer.errors import BundleError
from batch_issuer.files import DIRECTORY_MODE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from batch_issuer.bundles.contents import PartBundles

__all__ = ["TarFormat"]

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_LARGEST_FILE = 1 << 20
_FLUSH = 64
"""Devices per piece: what stays in the processor's cache between being made and being copied to the file."""

_MEMORY_LIMIT = 50_000
"""Header tails kept: a part whose sota.toml differ in length from row to row must not fill the memory."""


class TarFormat(PackedFormat):
    """`part-00000.tar`, mode 0600: ustar, owner 0, mode of every member as on the device."""

    name = "tar"
    suffix = ".tar"

    def __init__(self) -> None:
        self._headers = _Headers()

    def pieces(self, part: PartBundles) -> Iterator[bytes]:
        """The archive, some devices at a time."""
        members: list[bytes] = []
        for index, device in enumerate(_members(part, self._headers), start=1):
            members += device
            if index % _FLUSH == 0:
                yield b"".join(members)
                members.clear()
        members.append(_END)
        yield b"".join(members)

    def octets(self, devices: int, certificate: int, root: int, sota: int) -> int:
        """The file's size for so many devices with parts of these DER and text sizes."""
        texts = [227, _pem_length(certificate), _pem_length(root)] + [sota] * (sota > 0)
        return devices * (_BLOCK + sum(_BLOCK + text + len(_padding(text)) for text in texts)) + len(_END)

    def bundles_in(self, file: BinaryIO, name: str, problems: tuple[str, ...]) -> Iterator[Bundle]:
        """The part's bundles, in its order.

        Strict: what this program does not write is a problem of the bundle, or ends the reading.

        Raises:
            BundleError: it is no tar, is cut off or has a member outside a device's folder.
        """
        return _read_bundles(file, name, problems)


def _pem_length(der_length: int) -> int:
    return len(certificate_pem(CertificateDer(bytes(der_length))))


def _padding(length: int) -> bytes:
    return bytes(-length % _BLOCK)


class _Headers(dict[tuple[str, int, int], bytes]):
    """(file name, octets, sum of the UUID's characters) to the header's octets after the UUID."""

    def __missing__(self, key: tuple[str, int, int]) -> bytes:
        if len(self) >= _MEMORY_LIMIT:
            self.clear()
        name, size, uuid_sum = key
        before, checksum, after = _header(name, size)
        tail = self[key] = b"%b%06o\0 %b" % (before, checksum + uuid_sum, after)
        return tail


@lru_cache(maxsize=1024)
def _header(name: str, size: int) -> tuple[bytes, int, bytes]:
    """A member's header between UUID and checksum, its checksum without the UUID, and the header after it."""
    member = tarfile.TarInfo("0" * UUID_LENGTH + "/" + name)
    member.size = size
    member.mode = FILE_MODES[name] if name else DIRECTORY_MODE
    member.type = tarfile.REGTYPE if name else tarfile.DIRTYPE
    header = member.tobuf(tarfile.USTAR_FORMAT)
    # chksum, 8 octets at 148: the sum of all octets of the header, as if these were blanks (POSIX pax, ustar).
    checksum = int(header[148:154], 8) - UUID_LENGTH * ord("0")
    return header[UUID_LENGTH:148], checksum, header[156:]


def _members(part: PartBundles, headers: _Headers) -> Iterator[tuple[bytes, ...]]:
    root = certificate_pem(part.root)
    root_size, root_content = len(root), root + _padding(len(root))
    paddings = [_padding(length) for length in range(_BLOCK)]
    sota_texts = part.sota_toml or [b""] * len(part.device_uuids)
    rows = zip(part.device_uuids, part.private_keys, part.certificates, sota_texts, strict=True)
    for uuid, private_key, certificate, sota in rows:
        total = sum(uuid)
        leaf = certificate_pem(certificate)
        members: tuple[bytes, ...] = (uuid, headers["", 0, total])
        if private_key is not None:
            key = private_key_pem(private_key)
            members += (uuid, headers[PRIVATE_KEY, len(key), total], key, paddings[len(key) % _BLOCK])
        members += (
            uuid, headers[CERTIFICATE, len(leaf), total], leaf, paddings[len(leaf) % _BLOCK],
            uuid, headers[ROOT, root_size, total], root_content,
        )  # fmt: skip
        if sota:
            members += (uuid, headers[SOTA_TOML, len(sota), total], sota, paddings[len(sota) % _BLOCK])
        yield members


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size: int
    problems: tuple[str, ...]


class _MemberReader(dict[tuple[bytes, int], _Member]):
    """Headers as `tarfile` reads them, remembered by what follows the UUID and by the UUID's share of the checksum."""

    def read(self, file: BinaryIO) -> tuple[str, _Member] | None:
        """The next member's UUID and its header; None at the archive's end."""
        header = file.read(_BLOCK)
        if not header.strip(b"\0") and len(header) == _BLOCK:
            if file.read(_BLOCK + 1) != bytes(_BLOCK):
                raise tarfile.HeaderError("something follows the archive's end")
            return None
        uuid, rest = header[:UUID_LENGTH], header[UUID_LENGTH:]
        key = (rest, sum(uuid))
        member = self.get(key)
        if member is None:
            if len(self) >= _MEMORY_LIMIT:
                self.clear()
            member = self[key] = _parse(header)
        return uuid.decode("ascii"), member


def _parse(header: bytes) -> _Member:
    parsed = tarfile.TarInfo.frombuf(header, "ascii", "strict")
    slash, name = parsed.name[UUID_LENGTH : UUID_LENGTH + 1], parsed.name[UUID_LENGTH + 1 :]
    if (slash != "/" and parsed.name[UUID_LENGTH:]) or (name and name not in FILE_MODES):
        raise tarfile.HeaderError(f"member {parsed.name!r} does not belong there")
    if parsed.type != (tarfile.REGTYPE if name else tarfile.DIRTYPE):
        raise tarfile.HeaderError(f"member {parsed.name!r} is of another kind than expected")
    if not 0 <= parsed.size <= (_LARGEST_FILE if name else 0):
        raise tarfile.HeaderError(f"member {parsed.name!r} has another size than any file of a bundle")
    return _Member(name, parsed.size, _header_problems(header, parsed, name))


def _header_problems(header: bytes, parsed: tarfile.TarInfo, name: str) -> tuple[str, ...]:
    told = name or "the folder"
    expected = tarfile.TarInfo(header[:UUID_LENGTH].decode("ascii") + "/" + name)
    expected.size, expected.type = parsed.size, parsed.type
    expected.mode = FILE_MODES[name] if name else DIRECTORY_MODE
    problems = []
    if parsed.mode != expected.mode:
        problems.append(f"the archived mode of {told} is {parsed.mode:04o}, expected {expected.mode:04o}")
    if (parsed.uid, parsed.gid, parsed.uname, parsed.gname) != (0, 0, "", ""):
        owner = f"{parsed.uid}:{parsed.gid} with the names {parsed.uname!r} and {parsed.gname!r}"
        problems.append(f"the archived owner of {told} is {owner}, expected 0:0 without names")
    if parsed.mtime != 0:
        problems.append(f"the archived time of {told} is {parsed.mtime}, expected 0")
    if not problems and header != expected.tobuf(tarfile.USTAR_FORMAT, "ascii"):
        problems.append(f"the archived header of {told} has other octets than a ustar header with these values")
    return tuple(problems)


def _read_bundles(file: BinaryIO, part: str, problems: tuple[str, ...]) -> Iterator[Bundle]:
    reader = _MemberReader()
    current: Bundle | None = None
    try:
        while (found := reader.read(file)) is not None:
            uuid, member = found
            if not member.name:
                if current is not None:
                    yield current
                current = Bundle(uuid, {}, problems + member.problems)
                continue
            content = file.read(member.size)
            padding = file.read(-member.size % _BLOCK)
            if current is None or uuid != current.device_uuid or member.name in current.files:
                raise BundleError(f"{part}: member {uuid}/{member.name} is not where it belongs")
            if len(content) != member.size or len(padding) != -member.size % _BLOCK:
                raise BundleError(f"{part} is cut off in {uuid}/{member.name}")
            current.files[member.name] = content
            wrong = member.problems
            if padding.count(0) != len(padding):
                wrong += (f"{member.name} is filled up to a whole block with other octets than zeros",)
            if wrong:
                current = replace(current, problems=current.problems + wrong)
    except (tarfile.TarError, UnicodeError) as error:
        raise BundleError(f"{part} is not a whole tar file: {error}") from None
    if current is not None:
        yield current
