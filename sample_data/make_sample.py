"""Makes the sample manifests beside it, the same ones every time.

    python sample_data/make_sample.py [FOLDER]

`devices.parquet` and `devices.csv` are one list of 250 devices in two forms; `devices-bad.csv` holds the mistakes that
lists from real factories come with, one a row, and says in the column `name` which one it is.

The UUIDs come from a generator with a fixed seed. Never put a device of this list into the field: everybody has it.
"""

from __future__ import annotations

import csv
import random
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["bad_rows", "sample_rows", "write_samples"]

SEED = 20261123
DEVICES = 250
PILOT = 50
"""Devices of the pilot series; the others are production."""

HARDWARE = ("imx8mm-lpddr4-evk", "raspberrypi4-64", "stm32mp1-disco")

SCHEMA = pa.schema(
    [
        ("device_uuid", pa.string()),
        ("name", pa.string()),
        ("group", pa.string()),
        ("hardware_id", pa.string()),
        ("production", pa.bool_()),
    ]
)

Row = tuple[str, str, str, str, bool]


def sample_rows() -> list[Row]:
    """The sample's rows, in the order of `SCHEMA`."""
    source = random.Random(SEED)  # noqa: S311 - a sequence that is the same every time is the point
    rows: list[Row] = []
    for number in range(1, DEVICES + 1):
        device = str(uuid.UUID(int=source.getrandbits(128), version=4))
        production = number > PILOT
        group = "line-1" if production else "pilot"
        rows.append((device, f"gateway-{number:04d}", group, source.choice(HARDWARE), production))
    return rows


def bad_rows() -> list[list[str]]:
    """The rows of `devices-bad.csv`: two good ones, and one for each mistake."""
    good = [_as_text(row) for row in sample_rows()[:9]]
    (first, *_), hardware = good[0], HARDWARE[0]
    uuids = [row[0] for row in good]
    return [
        [first, "good", "pilot", hardware, "false"],
        [f"{{{uuids[1]}}}", "UUID in braces", "pilot", hardware, "false"],
        [uuids[2].replace("-", ""), "UUID without hyphens", "pilot", hardware, "false"],
        [f"{uuids[3][:-1]}O", "letter O for a zero", "pilot", hardware, "false"],
        ["00000000-0000-0000-0000-000000000000", "nil UUID", "pilot", hardware, "false"],
        ["", "no UUID", "pilot", hardware, "false"],
        [first.upper(), "row 1 again in capitals", "pilot", hardware, "false"],
        [uuids[6], "production is not true or false", "pilot", hardware, "ja"],
        [uuids[7], "a line break in a cell", "pilot", f"{hardware}\n", "false"],
        [uuids[8], "a comma too many", "pilot", hardware, "false", ""],
        [uuids[4], "good too", "pilot", hardware, "false"],
    ]


def write_samples(folder: Path) -> None:
    """Write the three files into `folder`, over what is there."""
    rows = sample_rows()
    columns = [list(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, schema=SCHEMA), folder / "devices.parquet")
    _write_csv(folder / "devices.csv", [_as_text(row) for row in rows])
    _write_csv(folder / "devices-bad.csv", bad_rows())


def _as_text(row: Row) -> list[str]:
    *texts, production = row
    return [*map(str, texts), "true" if production else "false"]


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([SCHEMA.names, *rows])


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parent)
