"""When a part was made, by whom, and how long it took: kept in its commit record, so that a resume knows it too."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["PartTiming"]

_FORM = re.compile(rb"1 (\d{1,15}) ([0-9a-f]{8}) (\d{1,15}) (\d{1,15}) (\d{1,15})")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTiming:
    """How the making of one part went, up to its commit.

    Attributes:
        session: when the command began that made it, milliseconds since 1970 in UTC; the same for all its parts.
        worker: the worker's own id, 8 hex digits.
        began: when the worker took the part up, as `session`.
        micros: how long it took, microseconds.
        signing_micros: how much of that went into keys and the CA's signatures; 0 where it was not measured.
    """

    session: int
    worker: str
    began: int
    micros: int
    signing_micros: int = 0

    def encode(self) -> bytes:
        """One line of ASCII."""
        return f"1 {self.session} {self.worker} {self.began} {self.micros} {self.signing_micros}".encode()

    @classmethod
    def decode(cls, octets: bytes | None) -> PartTiming | None:
        """What `encode` wrote; None if there is nothing, or nothing of that kind: no run fails for its timing."""
        match = None if octets is None else _FORM.fullmatch(octets)
        if match is None:
            return None
        session, worker, began, micros, signing = match.groups()
        return cls(
            session=int(session),
            worker=worker.decode(),
            began=int(began),
            micros=int(micros),
            signing_micros=int(signing),
        )
