"""Runs into a store, killed: before their requests, and at random instants; resumed, the result is exact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import audit
import pytest
import runs
from crash_matrix import SIGNER
from cryptography import x509
from pki import make_pki
from stores import BUCKET, Stores, copy_prefix, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
RANDOM_KILLS = int(os.environ.get("BATCH_ISSUER_CHAOS", "3"))
STEPS = {"dir": 1, "tar": 1} if "BATCH_ISSUER_CHAOS" in os.environ else {"dir": 15, "tar": 4}
"""Every how manyth request is tried; of a run of folders most put one file of many."""


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    with serving() as started:
        yield started


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder, signer=SIGNER)
    return folder


def matrix(bundle_format: str, stores: Stores, pki: Path, folder: Path, step: int, *flaw: str) -> dict[str, Any]:
    arguments = [sys.executable, str(HERE / "store_crash.py"), bundle_format, str(pki), str(folder), stores.endpoint]
    environment = stores.environment | {"AWS_ENDPOINT": stores.endpoint}
    ended = subprocess.run(
        [*arguments, str(step), *flaw], capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("bundle_format", STEPS)
def test_killed_before_requests(bundle_format: str, stores: Stores, pki: Path, tmp_path: Path) -> None:
    step = STEPS[bundle_format]
    result = matrix(bundle_format, stores, pki, tmp_path, step)
    print(f"{bundle_format}: kills {result['kills']}, rows {result['rows']}, failures {len(result['failures'])}")
    assert result["failures"] == []
    assert result["kills"] >= 35 // step


@pytest.mark.parametrize(("flaw", "step"), [("keep-losers", 1), ("commit-first", 1)])
def test_the_audit_finds_what_is_wrong(flaw: str, step: int, stores: Stores, pki: Path, tmp_path: Path) -> None:
    assert matrix("tar", stores, pki, tmp_path, step, flaw)["failures"] != []


def test_killed_at_random_instants(stores: Stores, pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole process group of the real program, or one of its workers, again and again, each time resumed."""
    for name, value in (stores.environment | {"TMPDIR": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    random, prefix = Random(3), stores.prefix()
    wanted = runs.write_manifest(tmp_path / "devices.parquet", 1200)
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    options = ["--format", "parquet", "--part-size", "40", "--workers", "2", "--resume", "-q"]
    arguments = runs.issue_arguments(tmp_path / "devices.parquet", pki, tmp_path, *options)
    arguments[arguments.index("--out") + 1] = f"s3://{BUCKET}/{prefix}"
    before: dict[str, str] = {}
    for kill in range(RANDOM_KILLS):
        process = runs.start(arguments)
        had, give_up = len(stores.proxy.seen), time.monotonic() + 60
        while len(stores.proxy.seen) < had + random.randrange(8, 60) and time.monotonic() < give_up:
            if process.poll() is not None:
                break
            time.sleep(0.005)
        runs.kill_group(process)
        copy_prefix(stores.client, prefix, tmp_path / f"killed-{kill}")
        now = audit.committed(tmp_path / f"killed-{kill}")
        assert before.items() <= now.items(), "a resumed run lost or changed what was issued"
        before = now
    ended = runs.run(arguments)
    assert ended.returncode == 0, ended.stderr
    copy_prefix(stores.client, prefix, tmp_path / "finished")
    audit.check_finished(tmp_path / "finished", wanted, ca, before)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("batch-issuer-")] == []
