"""The output folder's layout: one place that knows the names below OUT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.sums import BUNDLES

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BUNDLES", "OutputFolder", "part_name"]

_COMMIT = re.compile(r"part-([0-9]{5,12})\.arrow")


def part_name(index: int) -> str:
    """The name of the part at `index`, counted from 0 in the manifest's order."""
    return f"part-{index:05d}"


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """The paths of a run.

    `work` exists while a run is unfinished and is gone after it; everything else is what the user asked for.

    Attributes:
        path: OUT.
    """

    path: Path

    @property
    def record(self) -> Path:
        """What was asked: `run.json`. It is there when the plan was accepted, before the first key."""
        return self.path / "run.json"

    @property
    def bundles(self) -> Path:
        """The published bundles."""
        return self.path / BUNDLES

    @property
    def rejects(self) -> Path:
        """The findings about rows that were not issued."""
        return self.path / "rejects.csv"

    @property
    def report(self) -> Path:
        """What happened, for a person's eyes: `report.html`, one page that loads nothing."""
        return self.path / "report.html"

    @property
    def summary(self) -> Path:
        """Counts and times: `summary.json`. Written last, so its presence says that the run is finished."""
        return self.path / "summary.json"

    @property
    def sums(self) -> Path:
        """The SHA-256 of every other file of the finished run: `SHA256SUMS`, as `sha256sum --check` reads it."""
        return self.path / "SHA256SUMS"

    @property
    def signature(self) -> Path:
        """A detached CMS signature over `sums`, DER; only of a run with a signer."""
        return self.path / "SHA256SUMS.sig"

    @property
    def passwords(self) -> Path:
        """The password of each device's PKCS#12 file, of a run that made them; `sums` has no line for it."""
        return self.path / "p12-passwords.csv"

    def manifest(self, kind: str) -> Path:
        """The output manifest of a kind, `csv` or `parquet`."""
        return self.path / f"manifest.{kind}"

    @property
    def work(self) -> Path:
        """The unfinished run's own folder."""
        return self.path / ".run"

    @property
    def plan(self) -> Path:
        """The accepted rows, part by part."""
        return self.work / "plan.arrow"

    @property
    def spool(self) -> Path:
        """A manifest that came by standard input."""
        return self.work / "manifest"

    @property
    def ledger_run(self) -> Path:
        """The run's id in the ledger, before `run.json` has it."""
        return self.work / "ledger-run"

    @property
    def staging(self) -> Path:
        """Parts that are made and not published: a folder per attempt."""
        return self.work / "staging"

    def attempt(self, index: int, attempt: str) -> Path:
        """The folder of one attempt at a part, which nobody else writes to."""
        return self.staging / f"{part_name(index)}.{attempt}"

    @property
    def commits(self) -> Path:
        """One file of output rows per committed part; a device is issued when its part's file is here."""
        return self.work / "commits"

    def commit(self, index: int) -> Path:
        """The commit record of a part."""
        return self.commits / f"{part_name(index)}.arrow"

    def committed(self) -> list[int]:
        """The places of the parts that are committed, ascending: what is there, and not what a record claims."""
        names = (_COMMIT.fullmatch(path.name) for path in self.commits.glob("*.arrow"))
        return sorted(int(name[1]) for name in names if name and name[0] == self.commit(int(name[1])).name)

    @property
    def nonce(self) -> Path:
        """By which a worker on another machine knows that it sees this very folder."""
        return self.work / "nonce"

    @property
    def run_lock(self) -> Path:
        """Held by the one process that runs on this folder."""
        return self.work / "run.lock"

    @property
    def worker_lock(self) -> Path:
        """Held, shared, by each worker while it makes a part: who sweeps or removes waits for those at work."""
        return self.work / "workers.lock"
