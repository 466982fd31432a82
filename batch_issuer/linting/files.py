"""Certificates in files, PEM or DER, and what the judge finds in them."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.errors import RefusedError
from batch_issuer.linting.explained import names_of
from batch_issuer.linting.judge import judge, judge_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batch_issuer.linting.findings import Finding

__all__ = ["Linted", "Report", "lint_files"]

_LARGEST = 16 << 20
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----", re.ASCII)
_SEQUENCE = b"\x30"


@dataclass(frozen=True, slots=True)
class Linted:
    """A certificate and its findings.

    Attributes:
        name: its file, and its number in it if there are more.
        findings: all of them, explained ones and mere notices, too.
    """

    name: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What the judge found.

    Attributes:
        judge: who it was, with its version.
        certificates: in the order of the files.
    """

    judge: str
    certificates: tuple[Linted, ...]

    @property
    def wrong(self) -> int:
        """How many findings something is to be done about."""
        return sum(finding.wrong for one in self.certificates for finding in one.findings)

    @property
    def explained(self) -> int:
        """How many are explained."""
        return sum(finding.explained is not None for one in self.certificates for finding in one.findings)


def lint_files(paths: Sequence[Path]) -> Report:
    """Judge every certificate in some files; a CA among them explains what it is for.

    Raises:
        RefusedError: a file holds no certificate.
        OSError: as open(2), read(2).
    """
    found = [(name, der) for path in paths for name, der in _certificates(path)]
    issuers = {subject: der for _, der in found if (subject := names_of(der)[0])}
    judged = (Linted(name, tuple(judge(der, issuers.get(names_of(der)[1])))) for name, der in found)
    return Report(judge_name(), tuple(judged))


def _certificates(path: Path) -> list[tuple[str, bytes]]:
    with path.open("rb") as file:
        octets = file.read(_LARGEST + 1)
    if len(octets) > _LARGEST:
        raise RefusedError(f"{path} has more than {_LARGEST >> 20} MiB: it is no file of certificates")
    if octets.startswith(_SEQUENCE):
        return [(str(path), octets)]
    try:
        blocks = [binascii.a2b_base64(block) for block in _BLOCK.findall(octets)]
    except binascii.Error as error:
        raise RefusedError(f"{path} holds a certificate whose base64 is damaged: {error}") from None
    if not blocks:
        raise RefusedError(f"{path} holds no certificate", hint="expected PEM, or one certificate as DER")
    if len(blocks) == 1:
        return [(str(path), blocks[0])]
    return [(f"{path}, certificate {place}", der) for place, der in enumerate(blocks, 1)]
