"""Checks what stands in the output folder beside the bundles' content: names, kinds, modes, and the rejects."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from batch_issuer.files import DIRECTORY_MODE, PRIVATE_MODE, PUBLIC_MODE
from batch_issuer.verification.finding import Fault
from batch_issuer.verification.readable import shown_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord

__all__ = ["folder_faults", "password_faults", "read_rejected", "summary_faults", "unknown_bundles"]

_ADDED_LATER = frozenset({"registered.csv"})
"""What other commands write there, `register` so far: no run's SHA256SUMS has a line for it."""


def folder_faults(folder: OutputFolder, record: RunRecord, *, finished: bool) -> Iterator[tuple[str, Fault]]:
    """What is wrong in the output folder itself, each with the name that it is about."""
    needed, public = _needed(folder, record, finished=finished), _public(folder, record) | _ADDED_LATER
    mode = stat.S_IMODE(os.stat(folder.path).st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield ".", Fault("folder-mode", f"the output folder's mode is {mode:04o}: others than its owner may change it")
    private = {folder.passwords.name} if record.makes_passwords else set[str]()
    known = public | private | {folder.bundles.name} | (set() if finished else {folder.work.name})
    there = sorted(os.listdir(folder.path))
    for name in sorted(needed.difference(there)):
        yield name, Fault("folder-missing", f"{name} is not there")
    for name in there:
        status = os.lstat(folder.path / name)
        if name == folder.work.name and finished:
            yield name, Fault("run-leftover", "the finished run's own folder is still there; --resume clears it away")
        elif name not in known:
            yield name, Fault("folder-unknown", f"{shown_text(name)} is there, and no run puts it there")
        elif name in public:
            yield from ((name, fault) for fault in _file_faults(status, stat.S_IFREG, PUBLIC_MODE))
        elif name == folder.passwords.name:
            yield from ((name, fault) for fault in _file_faults(status, stat.S_IFREG, PRIVATE_MODE))
        elif name == folder.bundles.name:
            yield from ((name, fault) for fault in _file_faults(status, stat.S_IFDIR, DIRECTORY_MODE))


def _public(folder: OutputFolder, record: RunRecord) -> set[str]:
    """The files beside the bundles that this run may have."""
    paths = [folder.record, folder.manifest(record.manifest_format), folder.rejects, folder.summary, folder.sums]
    if record.signer is not None:
        paths.append(folder.signature)
    return {path.name for path in paths}


def _needed(folder: OutputFolder, record: RunRecord, *, finished: bool) -> set[str]:
    """What must be there."""
    if not finished:
        return {folder.record.name, folder.bundles.name}
    without = {folder.rejects.name} if record.accepted == record.rows else set[str]()
    return (_public(folder, record) - without) | {folder.bundles.name}


def _file_faults(status: os.stat_result, kind: int, mode: int) -> Iterator[Fault]:
    if stat.S_IFMT(status.st_mode) != kind:
        wanted = "a folder" if kind == stat.S_IFDIR else "a regular file"
        yield Fault("folder-kind", f"it is {stat.filemode(status.st_mode)}, expected {wanted}")
    elif stat.S_IMODE(status.st_mode) != mode:
        yield Fault("folder-mode", f"its mode is {stat.S_IMODE(status.st_mode):04o}, expected {mode:04o}")


def summary_faults(folder: OutputFolder, record: RunRecord) -> list[Fault]:
    """What `summary.json` says of the run that is not so."""
    wanted = {
        "format": record.format,
        "devices": record.accepted,
        "csr_rows": record.csr_rows,
        "rejected": record.rows - record.accepted,
        "parts": record.parts,
        "not_before": record.not_before,
        "not_after": record.not_after,
    }
    try:
        said = json.loads(folder.summary.read_bytes())
        return [
            Fault("summary-value", f"{name} is {shown_text(str(said.get(name)))}, expected {value!r}")
            for name, value in wanted.items()
            if said.get(name) != value
        ]
    except (ValueError, AttributeError, OSError) as error:
        return [Fault("summary-unreadable", f"it cannot be read: {error}")]


def password_faults(folder: OutputFolder, record: RunRecord) -> Iterator[Fault]:
    """What is wrong with the list of passwords as a whole; a list that was moved away is no fault."""
    if not record.makes_passwords or not folder.passwords.is_file():
        return
    listed = folder.passwords.read_bytes().count(b"\n") - 1
    if listed != record.accepted:
        yield Fault("passwords-count", f"it has the passwords of {listed} devices, expected {record.accepted}")


def read_rejected(folder: OutputFolder) -> pa.Array:
    """The rows of the input that `rejects.csv` names, each once, ascending, int64; none if there is no such file.

    Raises:
        ValueError: it cannot be read.
    """
    if not folder.rejects.exists():
        return pa.array([], pa.int64())
    try:
        table = pa.csv.read_csv(
            folder.rejects,
            parse_options=pa.csv.ParseOptions(newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(include_columns=["row"], column_types={"row": pa.int64()}),
        )
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"rejects.csv cannot be read: {error}") from None
    rows = pc.unique(table.column("row"))
    return rows.take(pc.sort_indices(rows))


def unknown_bundles(folder: OutputFolder, known: Iterable[pa.Array]) -> Iterator[str]:
    """Names in the bundles folder that are not among the known ones, which come in pieces of text."""
    names = pa.array(sorted(os.listdir(os.fsencode(folder.bundles))), pa.binary())
    for piece in known:
        names = names.filter(pc.invert(pc.is_in(names, piece.cast(pa.binary()))))
    yield from map(os.fsdecode, names.to_pylist())
