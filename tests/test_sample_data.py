"""The sample manifests are what their script makes, and are good and bad as they say."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

SAMPLES = Path(__file__).parents[1] / "sample_data"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    subprocess.run([sys.executable, str(SAMPLES / "make_sample.py"), str(folder)], check=True)
    return folder


def test_the_files_are_what_the_script_makes(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {path.name for path in SAMPLES.glob("devices*")}
    for name in ("devices.csv", "devices-bad.csv"):
        assert (SAMPLES / name).read_bytes() == (made / name).read_bytes()
    # Octets of Parquet depend on the version of its writer; the table does not.
    assert pq.read_table(SAMPLES / "devices.parquet").equals(pq.read_table(made / "devices.parquet"))


def test_both_forms_hold_the_same_devices() -> None:
    with (SAMPLES / "devices.csv").open(newline="") as file:
        from_csv = list(csv.reader(file))
    table = pq.read_table(SAMPLES / "devices.parquet")
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    from_parquet = [[str(value).lower() if isinstance(value, bool) else value for value in row] for row in rows]
    assert from_csv == [table.column_names, *from_parquet]
    assert len({row[0] for row in from_parquet}) == len(from_parquet) == 250
