"""What came out of a run, as numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Counts and times of a finished run; `summary.json` holds them.

    Attributes:
        out: the output folder.
        format: how bundles are stored.
        devices: issued, by all runs on this folder.
        devices_now: of these, by the last run.
        csr_rows: of `devices`, those that keep their keys: their rows brought a CSR.
        rejected: rows that were not issued.
        parts: stored parts.
        octets: bundles written by the last run.
        plan_seconds: reading and checking everything.
        start_seconds: waiting for the first worker to be ready; they start while the plan is made.
        issue_seconds: from then to the last part published.
        finish_seconds: the output manifest.
        devices_per_second: devices_now over issue_seconds; 0 when nothing was left to do.
        workers: processes.
        key_engine: what made the last run's keys: `openssl` or `aws-lc`; `auto` if it was a cluster elsewhere, whose
            workers chose for themselves.
        not_before: of every certificate, UTC.
        not_after: of every certificate, UTC.
        manifest: the output manifest's path.
        reissued: of `devices`, those that an earlier run in the ledger had issued.
        signer: who signed SHA256SUMS, by the name in the PKI directory; None if nobody did.
        warnings: sentences for the user.
        linted_by: who judged the run's first certificate, with its version; None if nobody did.
        report: the path of `report.html`; None if the run writes none.
        finished_before: whether the run was finished already, and nothing was left to do.
    """

    out: str
    format: str
    devices: int
    devices_now: int
    csr_rows: int
    rejected: int
    parts: int
    octets: int
    plan_seconds: float
    start_seconds: float
    issue_seconds: float
    finish_seconds: float
    devices_per_second: float
    workers: int
    key_engine: str
    not_before: str
    not_after: str
    manifest: str
    reissued: int
    signer: str | None
    warnings: tuple[str, ...]
    linted_by: str | None = None
    report: str | None = None
    finished_before: bool = False

    def to_json(self) -> bytes:
        """The file's octets."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, octets: bytes) -> Summary:
        """The summary in a file's octets.

        Raises:
            ValueError, TypeError: it is none.
        """
        values: dict[str, Any] = json.loads(octets)
        values["warnings"] = tuple(values["warnings"])
        return cls(**values)
