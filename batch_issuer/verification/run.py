"""Verifies a run: what was asked, what was issued, every bundle, and all of them together."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.bundles.sealed import readable_format
from batch_issuer.errors import OutputError
from batch_issuer.output.folder import BUNDLES, OutputFolder
from batch_issuer.output.manifest import issued_rows
from batch_issuer.output.record import read_record
from batch_issuer.processes import Supervisor, prepare_workers
from batch_issuer.verification import part
from batch_issuer.verification.anchors import anchor_faults, recorded_anchors
from batch_issuer.verification.facts import RunFacts
from batch_issuer.verification.finding import Fault, Finding, Findings
from batch_issuer.verification.layout import (
    folder_faults,
    password_faults,
    read_rejected,
    summary_faults,
    unknown_bundles,
)
from batch_issuer.verification.readable import shown_text
from batch_issuer.verification.rows import FOLDERS_PER_TASK, OPTIONAL_COLUMNS, SUFFIXES, ManifestWalk, PartTask
from batch_issuer.verification.signature import signature_faults, signer_faults, signer_name
from batch_issuer.verification.sums import open_sums
from batch_issuer.verification.unique import Identities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_issuer.bundles.format import PasswordOf
    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.verification.anchors import Anchors
    from batch_issuer.verification.part import PartResult

__all__ = ["Report", "verify_run"]

_UNREADABLE = "manifest-unreadable"


@dataclass(frozen=True, slots=True)
class Report:
    """What verification found.

    Attributes:
        devices: bundles that are there and were checked.
        expected: devices that the run was to issue.
        parts: parts that are there.
        expected_parts: parts that the run was to make.
        complete: whether the run is finished.
        signer: who signed it, a certificate's subject; None if nobody did, or anything is wrong with that.
        findings: the first of them, in the order of rows; none when all is well.
        counts: how many findings there are of each code.
        seconds: how long it took.
    """

    devices: int
    expected: int
    parts: int
    expected_parts: int
    complete: bool
    signer: str | None
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.counts


def verify_run(
    out: Path,
    *,
    anchors: Anchors | None = None,
    passwords: PasswordOf | None = None,
    workers: int = 1,
    identities: AgeIdentities | None = None,
    progress: Callable[[int], object] = lambda _: None,
    notify: Callable[[str], None] = lambda _: None,
) -> Report:
    """Check everything that a run wrote.

    1. Read what was asked, `run.json`; check the factory's certificates and the folder.
    2. Go through the output manifest, as a table.
    3. In worker processes, check every device: its row, its bundle, its key, its certificate.
    4. Over all of them: nothing twice, nothing missing, nothing unknown.

    Args:
        out: the output folder.
        anchors: the factory's certificates; None takes those that the run itself recorded.
        passwords: gives a bundle's password by its device's UUID, where bundles have one.
        workers: processes that check.
        identities: what opens sealed parts.
        progress: told how many more devices are done.
        notify: told, in a sentence, what the user should know meanwhile.

    Raises:
        OutputError: there is no run, or its `run.json` is damaged.
        RefusedError: bundles are sealed, and there is no identity.
        RunFailedError: the workers died.
        OSError: the disk failed.
    """
    return _Verification(out, anchors, workers, identities, passwords).run(progress, notify)


class _Verification:
    """One verification; each step is a method."""

    def __init__(
        self,
        out: Path,
        anchors: Anchors | None,
        workers: int,
        identities: AgeIdentities | None,
        passwords: PasswordOf | None,
    ) -> None:
        self._began = monotonic()
        self._folder = OutputFolder(out.absolute())
        self._record = read_record(self._folder.record)
        readable_format(self._record.format, self._record.seal_to, identities)  # refuses what cannot be read
        self._opened_by = identities
        prepare_workers([part.__name__])
        self._passwords = passwords
        self._anchors = anchors or recorded_anchors(self._record)
        self._finished = self._folder.summary.exists()
        most_tasks = max(self._record.parts, -(-self._record.accepted // FOLDERS_PER_TASK))
        self._workers = max(1, min(workers, most_tasks))
        self._findings = Findings()
        self._identities = Identities()
        self._found = 0

    def run(self, progress: Callable[[int], object], notify: Callable[[str], None]) -> Report:
        self._check_frame()
        signed = self._check_signature()
        with open_sums(self._folder.sums) if self._finished else nullcontext() as sums:
            walk = ManifestWalk(self._record, self._findings, self._rejected(), sums, self._passwords)
            for task, result in self._supervisor(notify).run(walk.tasks(self._tables())):
                self._take(result)
                progress(task.count)
            if sums is not None and _UNREADABLE not in self._findings.counts:
                for place, fault in sums.rest(self._folder, self._record):
                    self._findings.add([fault], place)
        self._check_whole(walk)
        return self._report(walk, signer_name(self._record) if signed else None)

    def _check_frame(self) -> None:
        self._findings.add(anchor_faults(self._anchors, self._record), self._folder.record.name)
        for place, fault in folder_faults(self._folder, self._record, finished=self._finished):
            self._findings.add([fault], place)
        if self._finished:
            self._findings.add(summary_faults(self._folder, self._record), self._folder.summary.name)
            self._findings.add(password_faults(self._folder, self._record), self._folder.passwords.name)
        else:
            wrong = f"{self._committed()} of {self._record.parts} parts are committed; --resume issues the others"
            self._findings.add([Fault("run-unfinished", wrong)], self._folder.record.name)

    def _check_signature(self) -> bool:
        """Whether the run is signed, and rightly."""
        faults = list(signer_faults(self._anchors, self._record))
        signed = self._finished and self._record.signer is not None
        if signed:
            faults += signature_faults(self._folder, self._record, self._anchors.root)
        self._findings.add(faults, self._folder.signature.name)
        return signed and not faults and self._folder.signature.is_file()

    def _committed(self) -> int:
        return sum(self._folder.commit(index).exists() for index in range(self._record.parts))

    def _rejected(self) -> pa.Array:
        rejected = pa.array([], pa.int64())
        faults = []
        try:
            rejected = read_rejected(self._folder)
        except ValueError as error:
            faults.append(Fault("rejects-unreadable", str(error)))
        wanted = self._record.rows - self._record.accepted
        if self._finished and not faults and len(rejected) != wanted:
            faults.append(Fault("rejects-count", f"it names {len(rejected)} rows, expected {wanted}"))
        self._findings.add(faults, self._folder.rejects.name)
        return rejected

    def _tables(self) -> Iterator[pa.Table]:
        try:
            yield from issued_rows(self._folder, self._record, also=OPTIONAL_COLUMNS)
        except OutputError as error:
            self._findings.add([Fault(_UNREADABLE, str(error))], self._manifest)

    @property
    def _manifest(self) -> str:
        return self._folder.manifest(self._record.manifest_format).name

    def _supervisor(self, notify: Callable[[str], None]) -> Supervisor[PartTask, PartResult]:
        facts = RunFacts.of(
            self._folder.path,
            self._record,
            self._anchors,
            finished=self._finished,
            identities=self._opened_by,
        )
        begin = partial(part.start, facts)
        return Supervisor(begin, workers=self._workers, label=lambda task: task.place, notify=notify)

    def _take(self, result: PartResult) -> None:
        self._found += result.found
        self._findings.merge(result.findings)
        self._identities.add(result)

    def _check_whole(self, walk: ManifestWalk) -> None:
        self._identities.report(self._findings)
        if self._finished and walk.devices != self._record.accepted:
            wrong = f"it has {walk.devices} rows, expected the {self._record.accepted} accepted ones"
            self._findings.add([Fault("manifest-count", wrong)], self._manifest)
        missing = max(0, self._record.accepted - walk.devices)
        if not self._record.csr_rows - missing <= walk.csr_rows <= self._record.csr_rows:
            wrong = f"it says of {walk.csr_rows} devices that they keep their keys, expected {self._record.csr_rows}"
            self._findings.add([Fault("manifest-key-origin", wrong)], self._manifest)
        if self._folder.bundles.is_dir() and _UNREADABLE not in self._findings.counts:
            for name in self._unknown(walk):
                unknown = Fault("bundle-unknown", f"the manifest does not know {shown_text(name)}")
                self._findings.add([unknown], BUNDLES)

    def _unknown(self, walk: ManifestWalk) -> Iterator[str]:
        suffix = SUFFIXES.get(self._record.format)
        if suffix is None:
            return unknown_bundles(self._folder, [pa.array(sorted(walk.locations), pa.string())])
        with os.scandir(self._folder.bundles) as entries:
            if sum(1 for _ in entries) == self._found:
                return iter(())  # every bundle that was found is there, and nothing else is
        rows = issued_rows(self._folder, self._record)
        uuids = (table.column("device_uuid").combine_chunks() for table in rows)
        return unknown_bundles(self._folder, (pc.binary_join_element_wise(piece, suffix, "") for piece in uuids))

    def _report(self, walk: ManifestWalk, signer: str | None) -> Report:
        if not self._finished:
            parts = self._committed()
        elif self._record.format in SUFFIXES:
            parts = -(-walk.devices // self._record.part_size)
        else:
            parts = len(walk.locations)
        return Report(
            devices=self._found,
            expected=self._record.accepted,
            parts=parts,
            expected_parts=self._record.parts,
            complete=self._finished,
            signer=signer,
            findings=tuple(sorted(self._findings.kept, key=lambda finding: finding.row or 0)),
            counts=dict(sorted(self._findings.counts.items())),
            seconds=monotonic() - self._began,
        )
