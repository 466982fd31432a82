"""Which devices of a run are probed, and their bundles, read part by part."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.bundles.format import bundle_format
from batch_issuer.errors import BundleError, OutputError, RefusedError
from batch_issuer.output.folder import BUNDLES, OutputFolder
from batch_issuer.output.manifest import issued_rows
from batch_issuer.output.record import read_record
from batch_issuer.output.rows import KEY_MADE, KEY_ORIGIN_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.output.record import RunRecord

__all__ = ["Candidate", "Selection", "select_devices"]

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PART = f"{BUNDLES}/part-[0-9]{{5,}}"
_ATTEMPT = "\\.[0-9a-f]{8}"
"""What the names of parts have more in a run that was copied out of an object store."""

_PACKED = f"{_PART}({_ATTEMPT})?\\.(tar|parquet)"
_TAG = "tag"
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One device to be probed.

    Attributes:
        device_uuid: in lower case.
        tag: its update tag, None if it has none.
        files: its bundle, name to content; empty when it cannot be read. Not shown by repr.
        damage: why it cannot be read, None if it can.
    """

    device_uuid: str
    tag: str | None
    files: dict[str, bytes] = field(repr=False)
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The devices to be probed.

    Attributes:
        folder: the run's.
        record: what was asked of it.
        finished: whether the run is; of an unfinished one only what is committed is there.
        issued: how many devices the run issued whose keys it made.
        seed: of the sample; None when all are probed.
        rows: device_uuid, bundle and, if the manifest has it, tag, in the manifest's order.
    """

    folder: OutputFolder
    record: RunRecord
    finished: bool
    issued: int
    seed: int | None
    rows: pa.Table = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def candidates(self) -> Iterator[Candidate]:
        """Each device with its bundle; those of a place that cannot be read come with the reason."""
        stored = bundle_format(self.record.format)
        for place, rows in groupby(self._values(), key=itemgetter("bundle")):
            left = {row["device_uuid"]: row.get(_TAG) or self.record.tag for row in rows}
            damage = f"{place} has no bundle of it"
            try:
                for bundle in stored.read(self.folder.bundles, place.removeprefix(f"{BUNDLES}/")):
                    if bundle.device_uuid in left:
                        yield Candidate(bundle.device_uuid, left.pop(bundle.device_uuid), bundle.files)
                    if not left:
                        break
            except BundleError as error:
                damage = str(error)
            for uuid, tag in left.items():
                yield Candidate(uuid, tag, {}, damage)

    def _values(self) -> Iterator[dict[str, str]]:
        for start in range(0, len(self.rows), _ROWS_AT_ONCE):
            yield from self.rows.slice(start, _ROWS_AT_ONCE).to_pylist()


def select_devices(out: Path, *, sample: int | None, seed: int) -> Selection:
    """All devices that a run issued a key for, or a random sample of them; the same seed gives the same sample.

    Args:
        out: the run's output folder.
        sample: how many; None for all.
        seed: of the sample.

    Raises:
        OutputError: there is no run, or its manifest is damaged.
        RefusedError: nothing is issued yet, or nothing but certificates of devices that keep their keys.
    """
    folder = OutputFolder(out)
    record = read_record(folder.record)
    tables = [_needed(table) for table in issued_rows(folder, record, also=(_TAG, KEY_ORIGIN_COLUMN))]
    issued = sum(map(len, tables))
    if not issued:
        if record.csr_rows:
            raise RefusedError("no device is there whose key the run made; those that keep theirs cannot be probed")
        raise RefusedError("no device is issued yet", hint="resume the run first")
    rows = pa.concat_tables(tables)
    _check_places(rows)
    if sample is not None and sample < issued:
        chosen = sorted(random.Random(seed).sample(range(issued), sample))  # noqa: S311 - which devices is no secret
        rows = rows.take(pa.array(chosen, pa.int64()))
    return Selection(folder, record, folder.summary.exists(), issued, None if sample is None else seed, rows)


def _needed(table: pa.Table) -> pa.Table:
    if KEY_ORIGIN_COLUMN in table.column_names:
        table = table.filter(pc.equal(table[KEY_ORIGIN_COLUMN], KEY_MADE))  # the others' keys are not here
    return table.select([name for name in ("device_uuid", "bundle", _TAG) if name in table.column_names])


def _check_places(rows: pa.Table) -> None:
    """Nothing that leads out of the bundles folder is believed."""
    uuids, places = rows["device_uuid"], rows["bundle"]
    without_attempt = pc.replace_substring_regex(places, f"^{_PART}{_ATTEMPT}/", f"{BUNDLES}/")
    own = pc.equal(without_attempt, pc.binary_join_element_wise(BUNDLES, uuids, "/"))
    packed = pc.match_substring_regex(places, f"^{_PACKED}$")
    good = pc.and_kleene(pc.match_substring_regex(uuids, f"^{_UUID}$"), pc.or_kleene(own, packed))
    bad = pc.index(pc.fill_null(good, False), pa.scalar(False)).as_py()
    if bad >= 0:
        place, uuid = places[bad].as_py(), uuids[bad].as_py()
        raise OutputError(f"the output manifest names a bundle that cannot be: {place!r} for {uuid!r}")
