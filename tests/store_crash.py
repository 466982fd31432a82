"""Kills a small run into a store before every single request, resumes it, and audits; prints one line of JSON.

Usage: store_crash.py FORMAT PKI FOLDER ENDPOINT STEP [FLAW]

A process of its own: it forks a child per kill, and must not have started obstore's threads before. The environment
says where the store is for the program; ENDPOINT is for the audit. Of the
requests every STEPth is one to be killed before. FLAW seeds a mistake, to show that the audit bites; once is enough.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import uuid
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import audit
import obstore
from crash_matrix import DEVICES, SIGNER, Silent, in_child, run
from cryptography import x509
from faults import run_inline
from stores import BUCKET, client_of, copy_prefix

import batch_issuer.stores.store as store_module
from batch_issuer.batch import store_home
from batch_issuer.batch.request import RunRequest
from batch_issuer.stores.address import StoreAddress

if TYPE_CHECKING:
    from batch_issuer.batch.home import PartHome

__all__ = ["Silent"]

PART_SIZE = 4


class Counted:
    """obstore, which ends the process before request number `at`; never when that is negative."""

    def __init__(self, at: int) -> None:
        self._left = at
        self._turn = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        call = getattr(obstore, name)

        def counted(*args: Any, **options: Any) -> Any:
            with self._turn:
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                self._left -= 1
            return call(*args, **options)

        return counted


def killed_run(asked: RunRequest, at: int) -> None:
    vars(store_module)["obstore"] = Counted(at)
    run(asked)


def seed_keep_losers() -> None:
    """Make the program wrong: what attempts that lost have put there is never deleted."""
    setattr(store_home.StoreHome, "keep_only", lambda *_: None)  # noqa: B010 - a method is not assigned to


def seed_commit_first() -> None:
    """Make the program wrong: a part is committed before its bundles are in the store."""
    stage, commit = store_home.StoreParts.stage, store_home.StoreParts.commit
    waiting: list[Any] = []

    def stage_later(self: Any, bundles: Any, index: int, attempt: str) -> Any:
        put_all = self._store.put_all
        self._store.put_all = lambda files: waiting.extend((name, path.read_bytes()) for name, path in files)
        try:
            return stage(self, bundles, index, attempt)
        finally:
            self._store.put_all = put_all

    def commit_then_put(self: PartHome, index: int, attempt: str, record: memoryview) -> bool:
        won = commit(self, index, attempt, record)  # type: ignore[arg-type]
        while waiting:
            self._store.put(*waiting.pop())  # type: ignore[attr-defined]
        return won

    setattr(store_home.StoreParts, "stage", stage_later)  # noqa: B010 - the same
    setattr(store_home.StoreParts, "commit", commit_then_put)  # noqa: B010 - the same


FLAWS = {"keep-losers": seed_keep_losers, "commit-first": seed_commit_first}


def main() -> None:
    bundle_format, pki, folder, endpoint = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    run_inline()
    for flaw in sys.argv[6:]:
        FLAWS[flaw]()
    random = Random(7)
    wanted = [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(DEVICES)]
    (folder / "devices.csv").write_text("device_uuid\n" + "\n".join(wanted) + "\n")
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    client = client_of(endpoint)
    kills, failures = 0, []
    for at in range(0, 100_000, int(sys.argv[5])):
        base = folder / f"{at}"
        base.mkdir(mode=0o700)
        asked = _request(bundle_format, pki, folder, base)
        code = in_child(partial(killed_run, asked, at))
        if code == 0:
            break
        kills += 1
        failure = _audit(client, code, asked, wanted, ca)
        if failure:
            failures.append(f"kill {at}: {failure}")
            if sys.argv[6:]:
                break
    print(json.dumps({"kills": kills, "rows": kills * DEVICES, "failures": failures}))


def _request(bundle_format: str, pki: Path, folder: Path, base: Path) -> RunRequest:
    return RunRequest(
        manifest=folder / "devices.csv",
        pki=pki,
        out=Path(),
        prefix=StoreAddress("s3", BUCKET, f"crash/{folder.name}/{base.name}"),
        scratch=base,
        format=bundle_format,
        workers=1,
        part_size=PART_SIZE,
        hardware_id="hw",
        resume=True,
        manifest_format="parquet",
        sign_with=SIGNER,
        ledger=base / "ledger",
    )


def _audit(client: Any, code: int, asked: RunRequest, wanted: list[str], ca: x509.Certificate) -> str | None:
    assert asked.prefix is not None
    assert asked.scratch is not None
    if code != -signal.SIGKILL:
        return f"exit code {code}, expected a kill"
    killed, finished = asked.scratch / "killed", asked.scratch / "finished"
    copy_prefix(client, asked.prefix.path, killed)
    if in_child(partial(run, asked)):
        return "the resumed run failed"
    copy_prefix(client, asked.prefix.path, finished)
    try:
        before = audit.committed(killed)
        audit.check_finished(finished, wanted, ca, before)
        audit.check_signature(finished, asked.pki)
        audit.check_ledger(finished, asked.scratch / "ledger")
        left = {path.name for path in asked.scratch.iterdir()} - {"ledger", "killed", "finished"}
        assert left <= {"ledger-shm", "ledger-wal"}, f"left in the scratch folder: {left}"
    except AssertionError as error:
        return str(error)
    finally:
        shutil.rmtree(killed)
        shutil.rmtree(finished, ignore_errors=True)
    return None


if __name__ == "__main__":
    main()
