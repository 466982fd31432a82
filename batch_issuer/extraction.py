"""Bundles out of any format, as folders ready for a device."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from batch_issuer.bundles.contents import CERTIFICATE, FILE_MODES, PRIVATE_KEY, ROOT
from batch_issuer.bundles.directory import write_device
from batch_issuer.bundles.sealed import readable_format
from batch_issuer.devices import is_uuid
from batch_issuer.errors import BundleError, OutputError, RefusedError
from batch_issuer.figures import listed
from batch_issuer.files import make_directories, make_directory, sync_directory, sync_filesystem
from batch_issuer.output.folder import BUNDLES, OutputFolder
from batch_issuer.output.manifest import placed_rows
from batch_issuer.output.record import read_record
from batch_issuer.output.rows import KEY_BROUGHT, KEY_ORIGIN_COLUMN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from batch_issuer.bundles.contents import Bundle
    from batch_issuer.bundles.format import BundleFormat, PasswordOf
    from batch_issuer.bundles.recipients import AgeIdentities
    from batch_issuer.output.record import RunRecord

    _Places: TypeAlias = dict[str, dict[str, bool]]
    """The stored locations below the bundles folder, each with the devices that are wanted of it and whether each of
    these keeps its key."""

__all__ = ["extract"]

_BATCH = 5000


def extract(
    out: Path,
    device_uuids: Sequence[str] | None,
    to: Path,
    *,
    identities: AgeIdentities | None = None,
    passwords: PasswordOf | None = None,
    warn: Callable[[str], None],
    advance: Callable[[int], None] = lambda _: None,
) -> int:
    """Copy devices' bundles out of a run, each as a folder `<uuid>/` below `to`; returns how many.

    All of it is planned before the first file is written, and a folder appears under its name only whole and durable.

    Args:
        out: the run's output folder.
        device_uuids: which devices, in either case; None for all.
        to: the folder for them; made if it is not there.
        identities: what opens sealed bundles.
        passwords: opens the bundles, where that takes passwords.
        warn: told what is wrong with how a bundle is stored.
        advance: told how many more are there.

    Raises:
        OutputError: there is no run, or its manifest is damaged.
        RefusedError: a device is not in the run, or has a folder in `to` already; bundles are sealed and there is no
            identity, or no right one.
        BundleError: a bundle is missing or damaged.
        OSError: `to` cannot be written.
    """
    folder = OutputFolder(out)
    record = read_record(folder.record)
    stored = readable_format(record.format, record.seal_to, identities, passwords)
    wanted = None if device_uuids is None else _checked(device_uuids)
    places = _places(folder, record, wanted)
    if not folder.summary.exists():
        warn(f"the run in {out} is unfinished: only what is committed can be extracted")
    _check_free(places, to)
    try:
        make_directories(to)
    except OSError as error:
        raise OutputError(f"the folder {to} cannot be made: {error.strerror}") from None
    done = 0
    with _staging(to) as staging:
        for bundles in _batches(_wanted_bundles(folder, stored, places, warn)):
            _write(bundles, staging, to)
            done += len(bundles)
            advance(len(bundles))
    return done


def _check_free(places: _Places, to: Path) -> None:
    if not places:
        raise RefusedError("no device is issued yet", hint="resume the run first")
    taken = [uuid for found in places.values() for uuid in found if os.path.lexists(to / uuid)]
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise RefusedError(f"{to / taken[0]} is there already{more}", hint="take another --to, or move it away")


@contextmanager
def _staging(to: Path) -> Iterator[Path]:
    """A folder for bundles in the making, this process's alone; what a killed one left in it is removed."""
    staging = to / ".extract"
    with suppress(FileExistsError):
        make_directory(staging)
    lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"another extraction writes to {to}", hint="wait for it to end") from None
        for left in staging.iterdir():
            shutil.rmtree(left)
        try:
            yield staging
        finally:
            shutil.rmtree(staging)
    finally:
        os.close(lock)


def _checked(device_uuids: Sequence[str]) -> list[str]:
    lowered = [uuid.lower() for uuid in device_uuids]
    for uuid in lowered:
        if not is_uuid(uuid):
            raise RefusedError(f"expected a UUID of 8-4-4-4-12 hexadecimal digits, got {uuid[:60]!r}")
    return list(dict.fromkeys(lowered))


def _places(folder: OutputFolder, record: RunRecord, wanted: list[str] | None) -> _Places:
    places: _Places = {}
    names = None if wanted is None else pa.array(wanted, pa.string())
    for rows in placed_rows(folder, record, also=(KEY_ORIGIN_COLUMN,) if record.csr_rows else ()):
        chosen = rows if names is None else rows.filter(pc.is_in(rows["device_uuid"], names))
        columns = (chosen["bundle"].to_pylist(), chosen["device_uuid"].to_pylist(), _keeps_key(chosen, record))
        for place, uuid, keeps_key in zip(*columns, strict=True):
            places.setdefault(place.removeprefix(f"{BUNDLES}/"), {})[uuid] = keeps_key
    if wanted is not None:
        missing = sorted(set(wanted) - {uuid for found in places.values() for uuid in found})
        if missing:
            raise RefusedError(f"not issued by this run: {listed(missing)}", hint="the output manifest lists what is")
    return places


def _keeps_key(rows: pa.Table, record: RunRecord) -> list[bool]:
    """Whether each row's device keeps its key: by the manifest, since a bundle that lost its key looks the same."""
    if not record.csr_rows:
        return [False] * len(rows)
    if KEY_ORIGIN_COLUMN not in rows.column_names:
        raise OutputError(f"the output manifest is damaged: it has no column {KEY_ORIGIN_COLUMN}")
    return [origin == KEY_BROUGHT for origin in rows[KEY_ORIGIN_COLUMN].to_pylist()]


def _wanted_bundles(
    folder: OutputFolder, stored: BundleFormat, places: _Places, warn: Callable[[str], None]
) -> Iterator[Bundle]:
    for location, uuids in places.items():
        left = dict(uuids)
        for bundle in stored.read(folder.bundles, location):
            if bundle.device_uuid in left:
                keeps_key = left.pop(bundle.device_uuid)
                for problem in bundle.problems:
                    warn(problem)
                _check_files(bundle, keeps_key=keeps_key)
                yield bundle
        if left:
            raise BundleError(f"{BUNDLES}/{location} has no bundle of {min(left)}")


def _check_files(bundle: Bundle, *, keeps_key: bool) -> None:
    for name in (CERTIFICATE, ROOT) if keeps_key else (PRIVATE_KEY, CERTIFICATE, ROOT):
        if name not in bundle.files:
            raise BundleError(f"the bundle of {bundle.device_uuid} has no {name}")
    if keeps_key and PRIVATE_KEY in bundle.files:
        raise BundleError(
            f"the bundle of {bundle.device_uuid} has a {PRIVATE_KEY}, and the device keeps its key itself",
            hint="`batch-issuer verify` checks the run",
        )


def _batches(bundles: Iterable[Bundle]) -> Iterator[list[Bundle]]:
    batch: list[Bundle] = []
    for bundle in bundles:
        batch.append(bundle)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _write(bundles: list[Bundle], staging: Path, to: Path) -> None:
    source = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for bundle in bundles:
            files = ((name, bundle.files[name]) for name in FILE_MODES if name in bundle.files)
            write_device(source, bundle.device_uuid, files)
        sync_filesystem(source)
    finally:
        os.close(source)
    for bundle in bundles:
        os.rename(staging / bundle.device_uuid, to / bundle.device_uuid)
    sync_directory(to)
