"""What a judge of certificates says: findings, each explained by the factory's profiles or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_issuer.linting.explained import Explained

__all__ = ["WRONG", "Finding"]

WRONG = ("FATAL", "ERROR", "WARNING")
"""The severities that say that something is wrong, unless it is explained; the others only tell."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about one certificate.

    Attributes:
        severity: pkilint's: FATAL, ERROR, WARNING, NOTICE, INFO.
        code: pkilint's, such as `pkix.key_usage_extension_not_critical`.
        where: the field of the certificate.
        message: what pkilint says beside the code; often nothing.
        explained: why it stands, of a finding that comes from a fixed profile; None otherwise.
    """

    severity: str
    code: str
    where: str
    message: str
    explained: Explained | None = None

    @property
    def wrong(self) -> bool:
        """Whether something is to be done about it."""
        return self.severity in WRONG and self.explained is None

    def __str__(self) -> str:
        told = f"{self.severity} {self.code} at {self.where}"
        if self.message:
            told += f": {self.message}"
        return told if self.explained is None else f"{told} (explained: {self.explained.why}; {self.explained.source})"
