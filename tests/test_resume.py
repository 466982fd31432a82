"""What `--resume` may go on with, and what it must not touch."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import audit
import pytest
import runs
from crash_matrix import Silent
from cryptography import x509
from small_runs import changed

from batch_issuer.batch.request import RunRequest
from batch_issuer.batch.run import issue
from batch_issuer.batch.spill import PlanWriter
from batch_issuer.errors import BundleError, ManifestError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = ("dir", "tar", "tar.zst", "parquet")


def run(asked: RunRequest, *, now: datetime | None = None) -> None:
    issue(asked, Silent(), now=now or datetime.now(UTC))


def contents(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and ".run" not in path.parts}


@pytest.mark.parametrize("name", FORMATS)
def test_published_bundles_without_commit_records_are_never_issued_again(asked: RunRequest, name: str) -> None:
    """Else a device would get a second key, and its first would be gone."""
    asked = changed(asked, format=name)
    run(asked)
    (asked.out / "summary.json").unlink()
    before = contents(asked.out)
    with pytest.raises(BundleError, match="is in place, and there is no commit record of its part"):
        run(asked)
    assert contents(asked.out) == before


def test_a_run_whose_certificates_have_ended_is_not_resumed(asked: RunRequest) -> None:
    short = changed(asked, days=1)
    run(short)
    (asked.out / "summary.json").unlink()
    before = contents(asked.out)
    with pytest.raises(OutputError, match=r"^the run's certificates are valid from .* to .*, and now it is ") as raised:
        run(short, now=datetime.now(UTC) + timedelta(days=2))
    assert raised.value.hint == "look at this machine's clock; or issue what is left into another folder"
    assert contents(asked.out) == before


def test_a_finished_run_of_another_manifest_is_said_to_be_another(asked: RunRequest, tmp_path: Path) -> None:
    run(asked)
    before = contents(asked.out)
    runs.write_manifest(tmp_path / "devices.parquet", 7, seed=2)
    with pytest.raises(OutputError, match=r"^the manifest is not the one that the run began with: SHA-256 "):
        run(asked)
    assert contents(asked.out) == before


def test_a_finished_run_needs_no_key_to_be_found_finished(asked: RunRequest) -> None:
    run(asked)
    shutil.rmtree(asked.pki)
    run(asked)


def test_duplicates_dropped_by_a_plan_that_was_killed_do_not_stop_the_next(asked: RunRequest, tmp_path: Path) -> None:
    uuids = [f"00000000-0000-4000-8000-{i:012d}" for i in (1, 2, 1, 3)]
    (tmp_path / "devices.csv").write_text("device_uuid\n" + "\n".join(uuids) + "\n")
    values = {field: getattr(asked, field) for field in asked.__slots__}
    skipping = RunRequest(
        **values | {"manifest": tmp_path / "devices.csv", "skip_rejects": True, "manifest_format": "parquet"}
    )
    (asked.out / ".run").mkdir(parents=True)
    asked.out.chmod(0o700)
    (asked.out / ".run/plan.again").write_bytes(b"cut off")
    run(skipping)
    ca = x509.load_pem_x509_certificate((asked.pki / "local-ca.pem").read_bytes())
    rows = audit.committed(asked.out)
    assert list(rows) == [uuids[0], uuids[1], uuids[3]]
    audit.check_all(asked.out, rows, ca)


def test_a_part_that_arrow_cannot_hold_in_one_piece_is_refused(tmp_path: Path) -> None:
    """Rows that silently became two batches would never be issued."""
    import pyarrow as pa

    piece = pa.table({"row": [1], "carried:note": pa.array(["x" * (1 << 20)])})
    message = "^2100 rows of the manifest have more than 2 GiB in column 'note'$"
    with pytest.raises(ManifestError, match=message), PlanWriter(tmp_path / "plan.arrow", 2100) as plan:
        plan.add(pa.concat_tables([piece] * 2100))
