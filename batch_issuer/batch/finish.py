"""Step 5 of a run: what its parts committed becomes the one manifest, hashed, signed and summed up.

1. `bundles/` is synced: every bundle's name is durable before anything says that it is there.
2. All commit records, in order, become the output manifest; their lines of SHA256SUMS are copied beside it, and
   those of `p12-passwords.csv`, which is in place before the manifest is.
3. `rejects.csv`, if there are any.
4. The summary's octets are fixed, and not yet written: SHA256SUMS has their digest too.
5. `SHA256SUMS`, whole; then `SHA256SUMS.sig` over it, if the run has a signer.
6. `summary.json`: its presence says that the run is finished, so all that it is hashed with stands before it.

Killed before 6, all of it is done again from the same commit records.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING

from batch_issuer.batch.acceptance import check_manifest, check_sealing, check_signer
from batch_issuer.batch.plan import open_manifest
from batch_issuer.batch.summary import Summary
from batch_issuer.errors import OutputError
from batch_issuer.files import PUBLIC_MODE, replace_file, sync_directory
from batch_issuer.output.manifest import ManifestWriter
from batch_issuer.output.passwords import PasswordsWriter
from batch_issuer.output.record import read_record
from batch_issuer.output.rejects import rejects_csv
from batch_issuer.output.rows import read_commit
from batch_issuer.output.sums import SumsWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_issuer.authority.batch_signer import BatchSigner
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.devices import Rejection
    from batch_issuer.output.folder import OutputFolder
    from batch_issuer.output.record import RunRecord

__all__ = ["finish_run", "finished_before"]


def finish_run(
    folder: OutputFolder,
    record: RunRecord,
    rejections: Sequence[Rejection],
    signer: BatchSigner | None,
    summarise: Callable[[], Summary],
) -> Summary:
    """Finish a run whose parts are all published.

    Args:
        folder: the run's.
        record: what was asked.
        rejections: the rows that were not issued.
        signer: who signs SHA256SUMS; None for a run without one.
        summarise: called once, when the manifest is there.

    Raises:
        OSError: the disk is full or failed.
        OutputError: a commit record is damaged.
    """
    sync_directory(folder.bundles)  # 1
    new = folder.work / "sums.new"
    new.unlink(missing_ok=True)
    with SumsWriter(new) as sums:
        sums.add(folder.manifest(record.manifest_format).name, _write_manifest(folder, record, sums))  # 2
        if rejections:  # 3
            findings = rejects_csv(rejections, spreadsheet_safe=record.spreadsheet_safe)
            replace_file(folder.rejects, [findings], PUBLIC_MODE, scratch=folder.work)
            sums.add(folder.rejects.name, sha256(findings).hexdigest())
        sums.add(folder.record.name, sha256(folder.record.read_bytes()).hexdigest())
        summary = summarise()  # 4
        sums.add(folder.summary.name, sha256(summary.to_json()).hexdigest())
    os.rename(new, folder.sums)  # 5
    sync_directory(folder.path)
    if signer is not None:
        replace_file(folder.signature, [signer.sign(folder.sums)], PUBLIC_MODE, scratch=folder.work)
    replace_file(folder.summary, [summary.to_json()], PUBLIC_MODE, scratch=folder.work)  # 6
    return summary


def finished_before(request: RunRequest, folder: OutputFolder, say: Callable[[str], None]) -> Summary:
    """The summary of a finished run, if it is the one that is asked for; no key is needed.

    Raises:
        OutputError: it is of another manifest or signer, sealed to others, or damaged.
    """
    record = read_record(folder.record)
    with open_manifest(request, None) as file:
        check_manifest(record, file_digest(file, "sha256").hexdigest())
    check_signer(record, request.sign_with)
    check_sealing(record, request.seal_to)
    try:
        summary = Summary.from_json(folder.summary.read_bytes())
    except (ValueError, TypeError, KeyError) as error:
        message = f"{folder.summary} is damaged: {error}"
        raise OutputError(message, hint="`batch-issuer verify` checks the rest") from None
    say("the run is finished already: nothing to do")
    return replace(summary, finished_before=True)


def _write_manifest(folder: OutputFolder, record: RunRecord, sums: SumsWriter) -> str:
    """The output manifest, the bundles' lines of SHA256SUMS, the passwords; returns the manifest's SHA-256."""
    new, listed = folder.work / "manifest.new", folder.work / "passwords.new"
    for left in (new, listed):
        left.unlink(missing_ok=True)
    kind = record.manifest_format
    makes_passwords = record.makes_passwords
    with (
        ManifestWriter(new, kind, spreadsheet_safe=record.spreadsheet_safe) as manifest,
        PasswordsWriter(listed) if makes_passwords else nullcontext() as passwords,
    ):
        for index in range(record.parts):
            commit = read_commit(folder.commit(index), checked=True)
            sums.write(commit.sums)
            manifest.write(commit.rows)
            if passwords is not None:
                passwords.write(commit.passwords)
    if makes_passwords:
        os.rename(listed, folder.passwords)
    os.rename(new, folder.manifest(kind))
    sync_directory(folder.path)
    return manifest.digest
