"""Which devices of a run are probed, and their bundles, read part by part."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.bundles.sealed import readable_format
from batch_issuer.errors import BundleError, RefusedError
from batch_issuer.output.folder import BUNDLES, OutputFolder
from batch_issuer.output.manifest import placed_rows
from batch_issuer.output.record import read_record
from batch_issuer.output.rows import KEY_MADE, KEY_ORIGIN_COLUMN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_issuer.bundles.format import BundleFormat, PasswordOf
    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.output.record import RunRecord

__all__ = ["Candidate", "Selection", "select_devices"]

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
        stored: what reads the bundles.
    """

    folder: OutputFolder
    record: RunRecord
    finished: bool
    issued: int
    seed: int | None
    rows: pa.Table = field(repr=False)
    stored: BundleFormat = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def candidates(self) -> Iterator[Candidate]:
        """Each device with its bundle; those of a place that cannot be read come with the reason.

        Raises:
            IdentityError: a part is sealed to none of the identities.
        """
        for place, rows in groupby(self._values(), key=itemgetter("bundle")):
            left = {row["device_uuid"]: row.get(_TAG) or self.record.tag for row in rows}
            damage = f"{place} has no bundle of it"
            try:
                for bundle in self.stored.read(self.folder.bundles, place.removeprefix(f"{BUNDLES}/")):
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


def select_devices(
    out: Path,
    *,
    sample: int | None,
    seed: int,
    identities: AgeIdentities | None = None,
    passwords: PasswordOf | None = None,
) -> Selection:
    """All devices that a run issued a key for, or a random sample of them; the same seed gives the same sample.

    Args:
        out: the run's output folder.
        sample: how many; None for all.
        seed: of the sample.
        identities: what opens sealed bundles.
        passwords: opens bundles, where that takes passwords.

    Raises:
        OutputError: there is no run, or its manifest is damaged.
        RefusedError: nothing is issued yet, or nothing but certificates of devices that keep their keys; or bundles are
            sealed and there is no identity.
    """
    folder = OutputFolder(out)
    record = read_record(folder.record)
    stored = readable_format(record.format, record.seal_to, identities, passwords)
    tables = [_needed(table) for table in placed_rows(folder, record, also=(_TAG, KEY_ORIGIN_COLUMN))]
    issued = sum(map(len, tables))
    if not issued:
        if record.csr_rows:
            raise RefusedError("no device is there whose key the run made; those that keep theirs cannot be probed")
        raise RefusedError("no device is issued yet", hint="resume the run first")
    rows = pa.concat_tables(tables)
    if sample is not None and sample < issued:
        chosen = sorted(random.Random(seed).sample(range(issued), sample))  # noqa: S311 - which devices is no secret
        rows = rows.take(pa.array(chosen, pa.int64()))
    return Selection(folder, record, folder.summary.exists(), issued, None if sample is None else seed, rows, stored)


def _needed(table: pa.Table) -> pa.Table:
    if KEY_ORIGIN_COLUMN in table.column_names:
        table = table.filter(pc.equal(table[KEY_ORIGIN_COLUMN], KEY_MADE))  # the others' keys are not here
    return table.select([name for name in ("device_uuid", "bundle", _TAG) if name in table.column_names])
