"""Kills a small run before every single file operation, resumes it, and audits; prints one line of JSON.

Usage: crash_matrix.py FORMAT PKI FOLDER [FLAW]

A process of its own: it forks a child per kill, and must not have started Arrow's threads before.
FLAW seeds a mistake, to show that the audit bites: publish-first, drop-last-part.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import audit
import batch_issuer.batch.part
from batch_issuer.batch.request import RunRequest
from batch_issuer.batch.run import issue
from cryptography import x509
from faults import FileOperations, run_inline

if TYPE_CHECKING:
    from collections.abc import Callable

DEVICES = 7
PART_SIZE = 3


class Silent:
    """Watches and says nothing."""

    def say(self, sentence: str) -> None: ...
    def warn(self, sentence: str) -> None: ...
    def begin(self, devices: int) -> None: ...
    def advance(self, devices: int, *, minted: bool) -> None: ...
    def end(self) -> None: ...


def request(bundle_format: str, pki: Path, folder: Path, out: Path) -> RunRequest:
    return RunRequest(
        manifest=folder / "devices.csv",
        pki=pki,
        out=out,
        format=bundle_format,
        workers=1,
        part_size=PART_SIZE,
        hardware_id="hw",
        resume=True,
        manifest_format="parquet",
    )


def run(asked: RunRequest) -> None:
    issue(asked, Silent(), now=datetime.now(UTC))


def in_child(work: Callable[[], None]) -> int:
    """Do something in a forked child; returns its exit code, negative when a signal ended it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001 - a child never goes on as its parent
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_run(asked: RunRequest, at: int, log: Path) -> None:
    operations = FileOperations(asked.out.parent, at=at)
    operations.install()
    run(asked)
    log.write_text(str(len(operations.seen)))


def seed(flaw: str) -> None:
    """Make the program wrong in one way."""
    worker = batch_issuer.batch.part._PartWorker  # noqa: SLF001 - the flaw is in its very order of steps
    real_replace = batch_issuer.batch.part.replace_file
    if flaw == "publish-first":
        published = worker._stage_and_commit  # noqa: SLF001

        def publish_first(self, rows, uuids, name, commit):  # type: ignore[no-untyped-def]
            def publish_then_commit(*args, **kwargs):  # type: ignore[no-untyped-def]
                self._format.publish(self._folder.staging, self._folder.bundles, name, uuids)
                return real_replace(*args, **kwargs)

            batch_issuer.batch.part.replace_file = publish_then_commit
            return published(self, rows, uuids, name, commit)

        worker._stage_and_commit = publish_first  # type: ignore[method-assign]  # noqa: SLF001


def main() -> None:
    bundle_format, pki, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    run_inline()
    if len(sys.argv) > 4:
        seed(sys.argv[4])
    random = Random(7)
    wanted = [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(DEVICES)]
    (folder / "devices.csv").write_text("device_uuid\n" + "\n".join(wanted) + "\n")
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    kills, failures = 0, []
    for at in range(100_000):
        base = folder / f"{bundle_format}-{at}"
        base.mkdir()
        asked = request(bundle_format, pki, folder, base / "out")
        code = in_child(lambda asked=asked, at=at, base=base: killed_run(asked, at, base / "log"))
        if code == 0:
            break
        kills += 1
        failure = _audit(code, asked, wanted, ca)
        if failure:
            failures.append(f"kill {at}: {failure}")
    print(json.dumps({"kills": kills, "rows": kills * DEVICES, "failures": failures}))


def _audit(code: int, asked: RunRequest, wanted: list[str], ca: x509.Certificate) -> str | None:
    if code != -signal.SIGKILL:
        return f"exit code {code}, expected a kill"
    out = asked.out

    def resume_and_check() -> None:
        before = audit.check_interrupted(out) if out.exists() else {}
        run(asked)
        audit.check_finished(out, wanted, ca, before)

    return "the audit or the resumed run failed" if in_child(resume_and_check) else None


if __name__ == "__main__":
    main()
