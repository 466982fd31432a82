"""How long the tests of faults are, and the lines that they print at the end: what was done, and what was lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

LONG = "BATCH_ISSUER_CHAOS" in os.environ
"""Whether this is `make chaos`."""

LINES: list[str] = []


def tell(kind: str, faults: int, rows: int, failures: Collection[str] = ()) -> None:
    """Remember a line; nothing but a failure loses or doubles a row."""
    ended = "lost 0, doubled 0" if not failures else f"{len(failures)} FAILED"
    LINES.append(f"{kind:<34} faults {faults}, rows {rows}, {ended}")


def matrix(script: str, *arguments: str | Path | int, kind: str | None = None) -> dict[str, Any]:
    """The result of a script of this folder, which is told as a line if it has a kind."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=400)
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    if kind is not None:
        tell(kind, result["faults"], result["rows"], result["failures"])
    return result
