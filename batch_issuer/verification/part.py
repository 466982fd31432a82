"""One worker's task: every bundle of a part beside every row of the part."""

from __future__ import annotations

import os
import re
from array import array
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from batch_issuer.bundles.contents import FILE_MODES
from batch_issuer.bundles.sealed import readable_format
from batch_issuer.errors import BundleError, IdentityError
from batch_issuer.output.folder import BUNDLES, OutputFolder
from batch_issuer.output.rows import read_commit
from batch_issuer.stores.mirror import Mirror
from batch_issuer.verification.bundle import BundleChecker
from batch_issuer.verification.finding import Fault, Findings
from batch_issuer.verification.p12_file import P12Reader
from batch_issuer.verification.readable import shown_text
from batch_issuer.verification.regular import file_sha256
from batch_issuer.verification.rows import SUFFIXES, decode_rows
from batch_issuer.verification.sums import span_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from batch_issuer.bundles.contents import Bundle
    from batch_issuer.verification.facts import RunFacts
    from batch_issuer.verification.rows import PartTask, Row

__all__ = ["IDENTITY", "PartResult", "start"]

IDENTITY = 16
"""Octets of each value that is compared across the run: 128 bits of random numbers and digests are enough."""

_LARGEST_BUNDLE = 8 << 20
"""Octets of a device's bundle in a packed part, at most: none of its files has more than one mebibyte."""

_MOST_UNKNOWN = 10_000
"""Bundles of one file that its rows do not know, before the rest is left unread: some octets can unpack to millions."""

_UUID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NIL = "00000000-0000-0000-0000-000000000000"


@dataclass(slots=True)
class PartResult:
    """What a worker found; the four runs of octets have one value per device whose certificate could be read.

    Attributes:
        found: bundles that are there, right or wrong.
        findings: what is wrong.
        rows: row numbers, 8 octets each in this machine's order.
        uuids: the devices' UUIDs, `IDENTITY` octets each.
        serials: the serial numbers' last `IDENTITY` octets.
        keys: the public key digests' first `IDENTITY` octets.
    """

    found: int = 0
    findings: Findings = field(default_factory=Findings)
    rows: bytes = b""
    uuids: bytes = b""
    serials: bytes = b""
    keys: bytes = b""


def start(facts: RunFacts) -> Callable[[PartTask], PartResult]:
    """Begin a worker's life; returns what checks a task."""
    return PartChecker(facts).check


class PartChecker:
    """Checks part after part of one run.

    Args:
        facts: what the devices are checked against.
    """

    def __init__(self, facts: RunFacts) -> None:
        self._folder = OutputFolder(facts.out)
        self._format = readable_format(facts.format, facts.seal_to, facts.identities)
        self._packed = facts.format not in SUFFIXES
        self._mirror = None if facts.prefix is None else Mirror(facts.prefix, facts.out)
        self._bundles = BundleChecker(facts)
        self._suffix = SUFFIXES.get(facts.format, "")
        self._p12 = P12Reader(facts) if facts.format == "p12" else None

    def check(self, task: PartTask) -> PartResult:
        """Check the bundles of a task's rows."""
        collector = _Collector(self._bundles)
        rows = decode_rows(task.rows)
        digests: dict[str, str | None] = {}
        try:
            with self._fetched(task.location):
                if task.location is not None and self._packed:
                    self._check_file(task.location, rows, collector)
                else:
                    self._check_entries(task, rows, collector)
                digests = {} if task.sums is None else self._digests(task, collector)
        except BundleError as error:  # of what was fetched, as a whole
            collector.findings.add([Fault("part-unreadable", str(error))], task.place)
        if task.sums is not None:
            for place, fault in span_faults(self._folder.sums, task.sums, digests):
                collector.findings.add([fault], place)
        return collector.result()

    def _fetched(self, location: str | None) -> AbstractContextManager[object]:
        if self._mirror is None or location is None:
            return nullcontext()
        return self._mirror.bundles(location, None if self._packed else FILE_MODES)

    def _digests(self, task: PartTask, collector: _Collector) -> dict[str, str | None]:
        """Every file of a task's bundles that is there, with the digest of what it holds."""
        if task.location is None or not self._packed:
            return collector.digests
        path = self._folder.bundles / task.location
        if not os.path.lexists(path):
            return {}
        return {f"{BUNDLES}/{task.location}": file_sha256(path, _LARGEST_BUNDLE * (task.count + 1))}

    def _check_file(self, location: str, rows: list[Row], collector: _Collector) -> None:
        place = f"{BUNDLES}/{location}"
        if not os.path.lexists(self._folder.bundles / location):
            collector.findings.add([self._absence(location, len(rows))], place)
            return
        waiting = {row.device_uuid: row for row in rows}
        if len(waiting) != len(rows):
            collector.findings.add([Fault("uuid-twice", "rows of this part have the same device_uuid")], place)
        order = []
        try:
            stored = self._format.read(self._folder.bundles, location)
            for bundle in _bounded(stored, location, len(rows) + _MOST_UNKNOWN):
                order.append(bundle.device_uuid)
                row = waiting.pop(bundle.device_uuid, None)
                if row is None:
                    unknown = Fault("bundle-unknown", "the manifest has no row, or only one, for this bundle")
                    collector.findings.add([unknown], place, device_uuid=bundle.device_uuid)
                else:
                    collector.take(bundle, row)
        except (BundleError, IdentityError) as error:
            wrong = f"{error}; {len(waiting)} of its {len(rows)} devices were not reached"
            code = "part-sealed" if isinstance(error, IdentityError) else "part-unreadable"
            collector.findings.add([Fault(code, wrong)], place)
            return
        for row in waiting.values():
            collector.add(Fault("bundle-missing", "the device of this row has no bundle in its part"), row)
        if not waiting and len(order) == len(rows) and order != [row.device_uuid for row in rows]:
            collector.findings.add([Fault("part-order", "the bundles are in another order than the rows")], place)

    def _check_entries(self, task: PartTask, rows: list[Row], collector: _Collector) -> None:
        above = "" if task.location is None else f"{task.location}/"
        for row, password in zip(rows, task.passwords or (None,) * len(rows), strict=True):
            name = f"{above}{row.device_uuid}{self._suffix}"
            if row.bundle != f"{BUNDLES}/{name}":
                wrong = f"bundle is {shown_text(str(row.bundle))}, expected {BUNDLES}/{name}"
                collector.add(Fault("row-bundle", wrong), row)
            if not is_device_uuid(row.device_uuid):
                collector.add(Fault("row-uuid", _NOT_A_UUID), row)
                continue  # it is never used as a path
            if not os.path.lexists(self._folder.bundles / name):
                collector.add(self._absence(name, 1), row)
            elif self._p12 is None:
                self._check_folder(name, row, collector)
            else:
                self._check_p12(self._p12, row, password, collector)
        if task.location is not None:
            self._find_unknown(task.location, rows, collector)

    def _find_unknown(self, part: str, rows: list[Row], collector: _Collector) -> None:
        """What is in the folder of an attempt, and no row of its part knows."""
        folder = self._folder.bundles / part
        there = os.listdir(folder) if folder.is_dir() else []
        for name in sorted(set(there) - {row.device_uuid for row in rows}):
            unknown = Fault("bundle-unknown", f"the manifest does not know {shown_text(name)}")
            collector.findings.add([unknown], f"{BUNDLES}/{part}")

    def _check_folder(self, name: str, row: Row, collector: _Collector) -> None:
        try:
            for bundle in self._format.read(self._folder.bundles, name):
                collector.take(bundle, row)
                collector.hash(bundle, name)
        except BundleError as error:
            collector.add(Fault("bundle-unreadable", str(error)), row)

    def _check_p12(self, reader: P12Reader, row: Row, password: bytes | None, collector: _Collector) -> None:
        read = reader.read(row.device_uuid, password)
        if read.digest is not None:
            collector.digests[f"{BUNDLES}/{row.device_uuid}{self._suffix}"] = read.digest
        for fault in read.faults:
            collector.add(fault, row)
        if read.bundle is not None:
            collector.take(read.bundle, row)

    def _absence(self, location: str, devices: int) -> Fault:
        if location in self._staged:
            return Fault("bundle-unpublished", f"{devices} devices: committed, not yet published: resume the run")
        return Fault("bundle-missing", f"it is not there, and the manifest has {devices} devices in it")

    @cached_property
    def _staged(self) -> set[str]:
        """Names in the folders of the attempts that were committed, and in the folders of parts there."""
        names: set[str] = set()
        for commit in self._folder.commits.glob("*.arrow"):
            attempt = self._folder.staging / f"{commit.stem}.{read_commit(commit).attempt}"
            for _, folders, files in os.walk(attempt):
                names.update(folders, files)
        return names


def _bounded(bundles: Iterable[Bundle], location: str, most: int) -> Iterator[Bundle]:
    for count, bundle in enumerate(bundles):
        if count == most:
            raise BundleError(f"{location} has more than {_MOST_UNKNOWN:,} bundles without a row")
        yield bundle


_NOT_A_UUID = "device_uuid is not a UUID in lower case, 8-4-4-4-12, other than the nil UUID"


def is_device_uuid(text: str | None) -> bool:
    """Whether text is a UUID as the manifest must have it (RFC 9562 section 4)."""
    return text is not None and text != _NIL and _UUID.fullmatch(text) is not None


class _Collector:
    """Gathers a task's result device by device."""

    def __init__(self, bundles: BundleChecker) -> None:
        self.findings = Findings()
        self._check = bundles.check
        self._found = 0
        self._rows = array("q")
        self._uuids: list[str] = []
        self._serials: list[bytes] = []
        self._keys: list[bytes] = []
        self.digests: dict[str, str | None] = {}

    def add(self, fault: Fault, row: Row) -> None:
        self.findings.add([fault], str(row.bundle), row=row.row, device_uuid=row.device_uuid)

    def take(self, bundle: Bundle, row: Row) -> None:
        checked = self._check(bundle, row)
        self._found += 1
        if not is_device_uuid(row.device_uuid):
            checked.faults.append(Fault("row-uuid", _NOT_A_UUID))
        elif checked.serial and row.row is not None:
            self._rows.append(row.row)
            self._uuids.append(row.device_uuid)
            self._serials.append(checked.serial[-IDENTITY:].rjust(IDENTITY, b"\0"))
            self._keys.append(checked.public_key_digest[:IDENTITY])
        if checked.faults:
            self.findings.add(checked.faults, str(row.bundle), row=row.row, device_uuid=row.device_uuid)

    def hash(self, bundle: Bundle, location: str) -> None:
        """Take over the digests of a folder's files, of the octets that were checked."""
        for name, content in bundle.files.items():
            self.digests[f"{BUNDLES}/{location}/{name}"] = sha256(content).hexdigest()

    def result(self) -> PartResult:
        return PartResult(
            self._found,
            self.findings,
            self._rows.tobytes(),
            bytes.fromhex("".join(self._uuids).replace("-", "")),
            b"".join(self._serials),
            b"".join(self._keys),
        )
