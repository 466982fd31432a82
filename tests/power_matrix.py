"""Cuts the power of a small run before its file operations, resumes from what the disk has, and audits; prints JSON.

Usage: power_matrix.py FORMAT PKI FOLDER STEP [FLAW]. Of the operations every STEP-th is taken. FLAW: no-fsync,
no-publish-sync. A process of its own, as `crash_matrix.py`, whose run this is, without a ledger: SQLite writes its
files out of our sight.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import uuid
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import audit
from crash_matrix import DEVICES, Silent, in_child, request
from cryptography import x509
from disks import Disk
from faults import run_inline
from small_runs import changed

import batch_issuer.bundles.separate
from batch_issuer.batch import folder_home
from batch_issuer.batch.means import Secrets
from batch_issuer.batch.run import issue

if TYPE_CHECKING:
    from batch_issuer.batch.request import RunRequest

KINDS = ("least", "ordered", "any", "any")


class Told(Silent):
    """Counts the devices that the user was told are issued."""

    def __init__(self) -> None:
        self.devices = 0

    def advance(self, devices: int, *, minted: bool) -> None:  # noqa: ARG002 - an observer's
        self.devices += devices


def run(asked: RunRequest, told: Told) -> None:
    issue(asked, told, now=datetime.now(UTC), secrets=Secrets(p12_password=lambda: audit.PASSWORD))


def cut_run(asked: RunRequest, at: int, flaws: list[str]) -> None:
    base = asked.out.parent
    told = Told()

    def cut() -> None:
        for place, kind in enumerate(KINDS):
            disk.write_state(base / f"cut-{place}", Random(at * 10 + place), kind)
        (base / "told").write_text(str(told.devices))
        os.kill(os.getpid(), signal.SIGKILL)

    disk = Disk(base / "disk", at=at, act=cut)
    disk.install()
    if "no-fsync" in flaws:
        os.fsync = lambda fd: None  # noqa: ARG005 - the call is gone, not only its effect
        vars(batch_issuer.bundles.separate)["sync_filesystem"] = lambda fd: None  # noqa: ARG005 - the same
    if "no-publish-sync" in flaws:
        vars(folder_home)["sync_directory"] = lambda path: None  # noqa: ARG005 - the same
    run(changed(asked, out=base / "disk" / "out"), told)


def check(asked: RunRequest, wanted: list[str], told: int, ca: x509.Certificate) -> None:
    out = asked.out
    before = audit.check_interrupted(out) if out.exists() else {}
    assert len(before) >= told, f"{told} devices were told as issued, and {len(before)} are"
    run(asked, Told())
    audit.check_finished(out, wanted, ca, before)


def main() -> None:
    bundle_format, pki, folder, step = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    run_inline()
    random = Random(5)
    wanted = [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(DEVICES)]
    (folder / "devices.csv").write_text("device_uuid\n" + "\n".join(wanted) + "\n")
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    cuts, failures = 0, []
    for at in range(0, 100_000, step):
        base = folder / f"{at}"
        (base / "disk").mkdir(parents=True)
        asked = changed(request(bundle_format, pki, folder, base / "out"), ledger=None)
        code = in_child(partial(cut_run, asked, at, sys.argv[5:]))
        if code == 0:
            break
        assert code == -signal.SIGKILL, code
        told = int((base / "told").read_text())
        for place, kind in enumerate(KINDS):
            cuts += 1
            left = changed(asked, out=base / f"cut-{place}" / "out")
            if in_child(partial(check, left, wanted, told, ca)) != 0:
                failures.append(f"cut {at}, {kind}")
        shutil.rmtree(base)
    print(json.dumps({"faults": cuts, "rows": cuts * DEVICES, "failures": failures}))


if __name__ == "__main__":
    main()
