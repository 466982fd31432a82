"""What is visible is durable: the order of writes, syncs and renames of a run, and a run that forgets its fsyncs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from crash_matrix import SIGNER
from pki import make_pki


def durability(bundle_format: str, folder: Path, *flaw: str) -> list[str]:
    pki, work = folder / "pki", folder / "work"
    make_pki(pki, signer=SIGNER)
    work.mkdir()
    arguments = [
        sys.executable,
        str(Path(__file__).with_name("durability.py")),
        bundle_format,
        str(pki),
        str(work),
        *flaw,
    ]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60)
    found: list[str] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("bundle_format", ["dir", "tar", "parquet", "tar sealed", "p12", "p12-random"])
def test_everything_is_durable_before_it_is_visible(bundle_format: str, tmp_path: Path) -> None:
    assert durability(bundle_format, tmp_path) == []


@pytest.mark.parametrize("bundle_format", ["dir", "tar", "parquet", "tar sealed", "p12", "p12-random"])
def test_a_run_that_forgets_its_fsyncs_is_found(bundle_format: str, tmp_path: Path) -> None:
    found = durability(bundle_format, tmp_path, "no-fsync")
    assert any("before its commit is durable" in sentence for sentence in found)
    assert any("before it is durable" in sentence for sentence in found)


@pytest.mark.parametrize("bundle_format", ["tar", "parquet"])
def test_a_run_that_forgets_to_sync_the_folder_of_its_attempts_is_found(bundle_format: str, tmp_path: Path) -> None:
    """Else a power cut could leave a commit record whose attempt has no name; syncfs does it for folders."""
    found = durability(bundle_format, tmp_path, "no-folder-sync")
    assert [sentence for sentence in found if sentence.endswith("/.run/staging is durable")]
