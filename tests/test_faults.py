"""Calls that fail, power that goes, clocks that jump, files that are damaged: at any operation of a small run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import runs
from audit import check_finished
from chaos import LONG, matrix, tell
from crash_matrix import SIGNER
from cryptography import x509
from pki import make_pki

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_pki(folder, signer=SIGNER)
    return folder


@pytest.mark.parametrize("bundle_format", ["dir", "tar", "parquet"] if LONG else ["tar", "parquet"])
def test_what_a_power_cut_leaves_is_resumed(bundle_format: str, pki: Path, tmp_path: Path) -> None:
    step = 3 if LONG else 36
    result = matrix("power_matrix.py", bundle_format, pki, tmp_path, step, kind=f"power cut, {bundle_format}")
    assert result["failures"] == []
    assert result["faults"] >= 8


@pytest.mark.parametrize("flaw", ["no-fsync", "no-publish-sync"])
def test_a_run_that_does_not_sync_loses_devices_when_the_power_goes(flaw: str, pki: Path, tmp_path: Path) -> None:
    assert matrix("power_matrix.py", "tar", pki, tmp_path, "36", flaw)["failures"] != []


@pytest.mark.parametrize("bundle_format", ["dir", "tar", "parquet"] if LONG else ["tar"])
@pytest.mark.parametrize("number", ["ENOSPC", "EIO", "EMFILE", "EROFS"])
def test_a_call_that_fails_ends_the_run_resumable(number: str, bundle_format: str, pki: Path, tmp_path: Path) -> None:
    step = 4 if LONG else 17
    kind = f"{number}, {bundle_format}"
    result = matrix("fault_matrix.py", number, bundle_format, pki, tmp_path, step, kind=kind)
    assert result["failures"] == []
    assert result["faults"] >= 5


def test_an_fsync_that_is_tried_again_is_found(pki: Path, tmp_path: Path) -> None:
    assert matrix("fault_matrix.py", "EIO", "tar", pki, tmp_path, "5", "retry")["failures"] != []


def test_a_clock_that_jumps_between_kill_and_resume_changes_no_window(pki: Path, tmp_path: Path) -> None:
    result = matrix("fault_matrix.py", "clock", "tar", pki, tmp_path, 4 if LONG else 48, kind="clock jump, tar")
    assert result["failures"] == []
    assert result["faults"] >= 4


def test_a_window_that_goes_with_the_clock_is_found(pki: Path, tmp_path: Path) -> None:
    assert matrix("fault_matrix.py", "clock", "tar", pki, tmp_path, "48", "window")["failures"] != []


@pytest.mark.parametrize("bundle_format", ["tar", "parquet"] if LONG else ["tar"])
def test_a_damaged_file_is_refused_or_harmless_or_found_by_verify(
    bundle_format: str, pki: Path, tmp_path: Path
) -> None:
    """Of a run that was killed: its record, plan, commit records, staged and published parts."""
    step = 60 if LONG else 100
    kind = f"damaged file, {bundle_format}"
    result = matrix("fault_matrix.py", "damage", bundle_format, pki, tmp_path, step, kind=kind)
    assert result["failures"] == []
    assert result["faults"] >= 20


@pytest.mark.skipif(not LONG, reason="a part of make chaos")
def test_of_two_runs_that_begin_at_once_one_goes_on(pki: Path, tmp_path: Path) -> None:
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    for turn in range(10):
        manifest, out = tmp_path / f"{turn}.parquet", tmp_path / f"out-{turn}"
        wanted = runs.write_manifest(manifest, 500)
        arguments = runs.issue_arguments(manifest, pki, out, "--format", "tar", "--part-size", "50", "--workers", "1")
        both = [runs.start(arguments) for _ in range(2)]
        told = [process.communicate(timeout=120)[1] for process in both]
        assert sorted(process.returncode for process in both) == [0, 2], told
        check_finished(out, wanted, ca, {})
    tell("two runs at once, tar", 10, 5000)
