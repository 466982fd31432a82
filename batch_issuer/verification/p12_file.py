"""A device's PKCS#12 file as it lies in the bundles folder: how it is stored, and what is in it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from batch_issuer.bundles.contents import Bundle
from batch_issuer.files import PRIVATE_MODE
from batch_issuer.output.folder import OutputFolder
from batch_issuer.verification.finding import Fault
from batch_issuer.verification.p12 import LARGEST_P12, P12Error, opened_p12
from batch_issuer.verification.regular import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.verification.facts import RunFacts

__all__ = ["P12Reader", "ReadP12"]


@dataclass(frozen=True, slots=True)
class ReadP12:
    """What was found of one file.

    Attributes:
        faults: what is wrong with it.
        digest: SHA-256 of its octets, hex; None if they could not be read.
        bundle: what it holds; None if it does not open.
    """

    faults: list[Fault]
    digest: str | None = None
    bundle: Bundle | None = field(default=None, repr=False)


class P12Reader:
    """Reads the files of one run.

    Args:
        facts: what they are checked against.
    """

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self._bundles = OutputFolder(facts.out).bundles

    def read(self, device_uuid: str, password: bytes | None) -> ReadP12:
        """Read a device's file.

        Args:
            device_uuid: whose.
            password: what opens it; None if nobody knows.
        """
        name = f"{device_uuid}.p12"
        with opened(self._bundles / name, LARGEST_P12) as fd:
            if fd is None:
                wrong = f"{name} is not a regular file of at most {LARGEST_P12} octets that can be read"
                return ReadP12([Fault("bundle-unreadable", wrong)])
            octets, status = os.read(fd, LARGEST_P12), os.fstat(fd)
        faults, digest = list(_storage_faults(name, status, self._bundles.stat())), sha256(octets).hexdigest()
        if password is None:
            return ReadP12([*faults, Fault("p12-password", "nobody knows its password: the list has none")], digest)
        try:
            files, wrong_inside = opened_p12(octets, password, device_uuid, self._facts)
        except P12Error as error:
            return ReadP12([*faults, error.fault], digest)
        return ReadP12([*faults, *wrong_inside], digest, Bundle(device_uuid, files))


def _storage_faults(name: str, status: os.stat_result, above: os.stat_result) -> Iterator[Fault]:
    mode = stat.S_IMODE(status.st_mode)
    if mode != PRIVATE_MODE:
        yield Fault("bundle-storage", f"the mode of {name} is {mode:04o}, expected {PRIVATE_MODE:04o}")
    if status.st_nlink != 1:
        yield Fault("bundle-storage", f"{name} has {status.st_nlink} names in the file system, expected 1")
    if status.st_uid != above.st_uid:
        yield Fault("bundle-storage", f"the owner of {name} is {status.st_uid}, that of its folder {above.st_uid}")
