"""Kills a small run before every single file operation, resumes it, and audits; prints one line of JSON.

Usage: crash_matrix.py FORMAT PKI FOLDER [FLAW | mixed FIRST STEP]

A process of its own: it forks a child per kill, and must not have started Arrow's threads before.
FLAW seeds a mistake, to show that the audit bites: one of `FLAWS`; then the first failure ends it. With mixed, every
other device brings a CSR, and of the operations every STEP-th from FIRST is taken. FORMAT
may be `tar sealed` or `parquet sealed`: then no file may have a key in the clear at any kill; and `p12-random`: p12
with a password made for each device.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import audit
import csrs as csrs_module
import pyarrow as pa
from cryptography import x509
from faults import FileOperations, run_inline

from batch_issuer.batch import attempts, folder_home, part
from batch_issuer.batch import run as run_module
from batch_issuer.batch.means import Secrets
from batch_issuer.batch.request import RunRequest
from batch_issuer.batch.run import issue
from batch_issuer.output.folder import part_name

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES = 7
PART_SIZE = 3
SIGNER = "batch-signer"


class Silent:
    """Watches and says nothing."""

    def say(self, sentence: str) -> None: ...
    def warn(self, sentence: str) -> None: ...
    def begin(self, devices: int) -> None: ...
    def advance(self, devices: int, *, minted: bool) -> None: ...
    def end(self) -> None: ...


SEALED = " sealed"


def new_recipient(folder: Path) -> str:
    """Make an identity in a folder, once; returns its recipient."""
    import pyrage

    path = folder / audit.IDENTITY
    if not path.exists():
        path.write_text(str(pyrage.x25519.Identity.generate()))
    return str(pyrage.x25519.Identity.from_str(path.read_text()).to_public())


def request(bundle_format: str, pki: Path, folder: Path, out: Path) -> RunRequest:
    return RunRequest(
        manifest=folder / "devices.csv",
        pki=pki,
        out=out,
        format=bundle_format.removesuffix(SEALED).removesuffix("-random"),
        p12_passwords={"p12": "run", "p12-random": "device"}.get(bundle_format),
        seal_to=(new_recipient(folder),) if bundle_format.endswith(SEALED) else (),
        workers=1,
        part_size=PART_SIZE,
        hardware_id="hw",
        resume=True,
        manifest_format="parquet",
        sign_with=SIGNER,
        ledger=out.parent / "ledger",
    )


def run(asked: RunRequest) -> None:
    issue(asked, Silent(), now=datetime.now(UTC), secrets=Secrets(p12_password=lambda: audit.PASSWORD))


def run_swept(asked: RunRequest) -> None:
    """Go on with a run, whose staging folder must hold nothing but committed attempts when its parts begin."""
    make = part.PartWorker.make

    def checked(self: Any, index: int) -> Any:
        audit.check_staging(asked.out)
        return make(self, index)

    setattr(part.PartWorker, "make", checked)  # noqa: B010 - a method is not assigned to
    run(asked)


def in_child(work: Callable[[], None]) -> int:
    """Do something in a forked child; returns its exit code, negative when a signal ended it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            work()
            code = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_run(asked: RunRequest, at: int) -> None:
    FileOperations(asked.out.parent, at=at).install()
    run(asked)


def seed_publish_first() -> None:
    """Make the program wrong: bundles are renamed into place just before their part's commit, not after it."""
    commit_now = folder_home.FolderParts.commit

    def publish_then_commit(self: Any, index: int, attempt: str, record: memoryview) -> bool:
        uuids = pa.ipc.open_file(record).read_all()["device_uuid"].to_pylist()
        own = self._folder.attempt(index, attempt)
        self._format.publish(own, self._folder.bundles, part_name(index), [uuid.encode() for uuid in uuids])
        return commit_now(self, index, attempt, record)

    setattr(folder_home.FolderParts, "commit", publish_then_commit)  # noqa: B010 - a method is not assigned to


def seed_sweep_all() -> None:
    """Make the program wrong: a resume sweeps committed attempts, too."""
    vars(attempts)["_is_committed"] = lambda *_: False


def seed_sweep_none() -> None:
    """Make the program wrong: the attempts that kills leave are never swept."""
    vars(folder_home)["sweep_attempts"] = lambda _: None


def seed_summary_first() -> None:
    """Make the program wrong: summary.json, which says that the run is finished, is there before SHA256SUMS."""
    finish_run = vars(run_module)["finish_run"]

    def summary_first(home: Any, record: Any, rejections: Any, signer: Any, summarise: Any, *, report: Any) -> Any:
        def written() -> Any:
            summary = summarise()
            home.folder.summary.write_bytes(summary.to_json())
            return summary

        return finish_run(home, record, rejections, signer, written, report=report)

    vars(run_module)["finish_run"] = summary_first


def seed_stale_report() -> None:
    """Make the program wrong: a report that a killed finish wrote is kept, with figures of another summary."""
    from batch_issuer.batch import folder_home

    replace_now = vars(folder_home)["replace_file"]

    def keep_report(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name != "report.html" or not path.exists():
            replace_now(path, *args, **kwargs)

    vars(folder_home)["replace_file"] = keep_report


def seed_stale_passwords() -> None:
    """Make the program wrong: a part that is made anew is committed with the passwords of the attempt before."""
    lines_of = vars(part)["password_lines"]

    def stale(uuids: Any, passwords: Any) -> Any:
        path = Path(os.environ["CRASH_MATRIX_FOLDER"]) / f"stale-{uuids[0].decode()}"
        if not path.exists():
            path.write_bytes(b"".join(lines_of(uuids, passwords)))
        return path.read_bytes().splitlines(keepends=True)

    vars(part)["password_lines"] = stale


def seed_clear_first() -> None:
    """Make the program wrong: a part is written as it is, and sealed afterwards."""
    from batch_issuer.bundles.sealed import SealedFormat

    write_sealed = SealedFormat.write

    def write_clear_first(self: SealedFormat, bundles: Any, path: Path) -> Any:
        clear = path.with_suffix("")
        self._inner.write(bundles, clear)
        clear.unlink()
        return write_sealed(self, bundles, path)

    setattr(SealedFormat, "write", write_clear_first)  # noqa: B010 - a method is not assigned to


FLAWS = {
    "publish-first": seed_publish_first,
    "summary-first": seed_summary_first,
    "stale-report": seed_stale_report,
    "stale-passwords": seed_stale_passwords,
    "clear-first": seed_clear_first,
    "sweep-all": seed_sweep_all,
    "sweep-none": seed_sweep_none,
}


def main() -> None:
    bundle_format, pki, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    run_inline()
    flaw, mixed = sys.argv[4:5], sys.argv[4:5] == ["mixed"]
    if flaw and not mixed:
        FLAWS[flaw[0]]()
    random = Random(7)
    wanted = [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(DEVICES)]
    csrs = csrs_module.forms_of(wanted, 2) if mixed else {}
    (folder / "devices.csv").write_bytes(csrs_module.csr_manifest(wanted, csrs))
    brought = {uuid: csrs_module.spki_of(csr) for uuid, csr in csrs.items()}
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    kills, failures = 0, []
    first, step = map(int, sys.argv[5:]) if mixed else (0, 1)
    for at in range(first, 100_000, step):
        base = folder / f"{bundle_format}-{at}"
        base.mkdir()
        os.environ["CRASH_MATRIX_FOLDER"] = str(base)
        asked = request(bundle_format, pki, folder, base / "out")
        code = in_child(partial(killed_run, asked, at))
        if code == 0:
            break
        kills += 1
        failure = _audit(code, asked, wanted, ca, brought)
        if failure:
            failures.append(f"kill {at}: {failure}")
            if flaw and not mixed:
                break  # it is found
    print(json.dumps({"kills": kills, "rows": kills * DEVICES, "failures": failures}))


def _audit(code: int, asked: RunRequest, wanted: list[str], ca: x509.Certificate, brought: audit.Brought) -> str | None:
    if code != -signal.SIGKILL:
        return f"exit code {code}, expected a kill"
    out = asked.out

    def resume_and_check() -> None:
        before = audit.check_interrupted(out, brought) if out.exists() else {}
        if asked.seal_to and out.exists():
            audit.check_no_clear_key(out)
        run_swept(asked)
        audit.check_finished(out, wanted, ca, before, brought)
        audit.check_signature(out, asked.pki)
        audit.check_report(out)
        if asked.seal_to:
            audit.check_no_clear_key(out)
        audit.check_ledger(out, out.parent / "ledger")

    return "the audit or the resumed run failed" if in_child(resume_and_check) else None


if __name__ == "__main__":
    main()
