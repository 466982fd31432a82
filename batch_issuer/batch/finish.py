"""Step 5 of a run: what its parts committed becomes the one manifest, hashed, signed and summed up.

1. `bundles/` is synced: every bundle's name is durable before anything says that it is there.
2. All commit records, in order, become the output manifest; their lines of SHA256SUMS are copied beside it, and
   those of `p12-passwords.csv`, which is in place before the manifest is.
3. `rejects.csv`, if there are any.
4. The summary's octets are fixed, and not yet written: SHA256SUMS has their digest too. `report.html`, if the run has
   one, which shows these figures and no others.
5. `SHA256SUMS`, whole; then `SHA256SUMS.sig` over it, if the run has a signer.
6. `summary.json`: its presence says that the run is finished, so all that it is hashed with stands before it.

Killed before 6, all of it is done again from the same commit records.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING

from batch_issuer.batch.acceptance import check_manifest, check_sealing, check_signer
from batch_issuer.batch.source import open_manifest
from batch_issuer.batch.summary import Summary
from batch_issuer.errors import OutputError
from batch_issuer.files import PUBLIC_MODE
from batch_issuer.output.folder import part_name
from batch_issuer.output.lines import LinesWriter
from batch_issuer.output.manifest import ManifestWriter
from batch_issuer.output.passwords import PasswordsWriter
from batch_issuer.output.rejects import RejectsCsv
from batch_issuer.output.sums import SumsWriter

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_issuer.authority.batch_signer import BatchSigner
    from batch_issuer.batch.home import Home
    from batch_issuer.batch.request import RunRequest
    from batch_issuer.devices import Rejections
    from batch_issuer.output.record import RunRecord
    from batch_issuer.reporting.report import RunReport

__all__ = ["finish_run", "finished_before"]


def finish_run(
    home: Home,
    record: RunRecord,
    rejections: Rejections,
    signer: BatchSigner | None,
    summarise: Callable[[], Summary],
    *,
    report: RunReport | None = None,
) -> Summary:
    """Finish a run whose parts are all published.

    Args:
        home: where the run's output lives.
        record: what was asked.
        rejections: the rows that were not issued.
        signer: who signs SHA256SUMS; None for a run without one.
        summarise: called once, when the manifest is there.
        report: what becomes `report.html`; None for a run without one.

    Raises:
        OSError: the disk is full or failed.
        OutputError: a commit record is damaged.
    """
    folder, attempts = home.folder, set[str]()
    home.settle()  # 1
    new = folder.work / "sums.new"
    new.unlink(missing_ok=True)
    with SumsWriter(new) as sums:
        sums.add(
            folder.manifest(record.manifest_format).name, _write_manifest(home, record, sums, attempts, report)
        )  # 2
        home.keep_only(attempts)
        if len(rejections):  # 3
            told = rejections if report is None else report.tallied(rejections)
            sums.add(folder.rejects.name, _write_rejects(home, record, told))
        summary = summarise()  # 4
        if report is not None:
            page = report.page(summary)
            home.put(folder.report.name, page)
            sums.add(folder.report.name, sha256(page).hexdigest())
        sums.add(folder.record.name, sha256(home.get(folder.record.name) or b"").hexdigest())
        sums.add(folder.summary.name, sha256(summary.to_json()).hexdigest())
    signature = None if signer is None else signer.sign(new)
    home.place(new, folder.sums.name)  # 5
    if signature is not None:
        home.put(folder.signature.name, signature)
    home.put(folder.summary.name, summary.to_json())  # 6
    return summary


def finished_before(request: RunRequest, home: Home, say: Callable[[str], None]) -> Summary:
    """The summary of a finished run, if it is the one that is asked for; no key is needed.

    Raises:
        OutputError: it is of another manifest or signer, sealed to others, or damaged.
    """
    record = home.read_record()
    with open_manifest(request, None) as file:
        check_manifest(record, file_digest(file, "sha256").hexdigest())
    check_signer(record, request.sign_with)
    check_sealing(record, request.seal_to)
    try:
        summary = Summary.from_json(home.get(home.folder.summary.name) or b"")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        message = f"{home.shown(home.folder.summary.name)} is damaged: {error}"
        raise OutputError(message, hint="`batch-issuer verify` checks the rest") from None
    say("the run is finished already: nothing to do")
    return replace(summary, finished_before=True)


def _write_rejects(home: Home, record: RunRecord, rejections: Rejections) -> str:
    """The rejects file; returns its SHA-256."""
    new = home.folder.work / "rejects.new"
    new.unlink(missing_ok=True)
    findings = RejectsCsv(rejections, spreadsheet_safe=record.spreadsheet_safe)
    with LinesWriter(new, PUBLIC_MODE) as lines:
        for octets in findings:
            lines.write(octets)
    home.place(new, home.folder.rejects.name)
    return findings.digest


def _write_manifest(
    home: Home, record: RunRecord, sums: SumsWriter, attempts: set[str], report: RunReport | None
) -> str:
    """The output manifest, the bundles' lines of SHA256SUMS, the passwords; returns the manifest's SHA-256."""
    folder = home.folder
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
            commit = home.read_commit(index)
            sums.write(commit.sums)
            manifest.write(commit.rows)
            attempts.add(f"{part_name(index)}.{commit.attempt}")
            if report is not None:
                report.part(len(commit.rows), commit.timing)
            if passwords is not None:
                passwords.write(commit.passwords)
    if makes_passwords:
        home.place(listed, folder.passwords.name)
    home.place(new, folder.manifest(kind).name)
    return manifest.digest
