"""What the program is meant to reach, and whether the results say that it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_issuer.benchmark.figures import Limit
from benchmarks.handshakes import PROBE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.results import Results

__all__ = ["GOALS", "verdicts"]

_MOST_RESIDENT = 400e6

GOALS = {
    "rates-2": (
        Limit("core", "of_floor", 0.74),
        Limit("parquet sealed", "of_unsealed", 0.95),
        Limit("tar sealed", "of_unsealed", 0.95),
        Limit("dir", "of_bare_loop", 0.80),
        Limit("parquet", "parent_cpu_share", 0.06, at_most=True),
        Limit("tar", "parent_cpu_share", 0.06, at_most=True),
        Limit("dir", "parent_cpu_share", 0.06, at_most=True),
    ),
    "hsm-1": (Limit("parquet", "of_c_sign", 0.80),),
    "hsm-2": (Limit("parquet", "of_c_sign", 0.80),),
    "growth": (
        Limit("parquet", "of_floor", 0.74),
        Limit("tar.zst", "of_floor", 0.66),
        Limit("tar", "of_floor", 0.66),
        Limit("parquet aws-lc", "of_floor", 1.0),
        Limit("tar.zst aws-lc", "of_floor", 0.80),
        Limit("tar aws-lc", "of_floor", 0.80),
        Limit("parquet aws-lc", "wall_seconds", 28, at_most=True),
        Limit("1000000", "parent_peak_octets", _MOST_RESIDENT, at_most=True),
        Limit("1000000", "worker_peak_octets", _MOST_RESIDENT, at_most=True),
        Limit("growth", "evenness", 0.85),
    ),
    "shell": (
        Limit("--help", "wall_seconds", 0.3, at_most=True),
        Limit("issue 1,000", "wall_seconds", 1.5, at_most=True),
    ),
    "verify": tuple(Limit(kind, "devices_per_second", 11_000) for kind in ("parquet", "tar.zst", "tar", "dir")),
    "handshakes": (Limit(PROBE, "handshakes_per_second", 300),),
}
"""By section; for the sizes that `python -m benchmarks` takes of itself, on a machine of two cores."""


def verdicts(results: Results) -> Iterator[str]:
    """A sentence for each goal that was measured."""
    for name, limits in GOALS.items():
        if name in results.sections:
            summary = results.sections[name].summary
            for limit in limits:
                if limit.figure in summary.get(limit.name, {}):
                    yield f"{'met   ' if limit.holds(summary) else 'MISSED'}  {limit.sentence(summary)}"
