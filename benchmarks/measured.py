"""What the simulation takes from the results files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.results import newest, read

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Results

__all__ = ["Measured", "Sizes", "read_measured"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a device leaves in a format, octets."""

    bundle: float
    manifest: float
    sums: float

    @property
    def all(self) -> float:
        """Together."""
        return self.bundle + self.manifest + self.sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Medians, all of `issue --format parquet` where nothing else is said.

    Attributes:
        daily: the results of the long benchmark.
        plan: the results of the plan's benchmark.
        costs: the results of the costs' benchmark.
        cluster: the results of the cluster's benchmark.
        rates: devices per second by the number of local processes.
        token_rates: the same with a SoftHSM token.
        plan_seconds: per row, at the most rows that were measured.
        finish_seconds: per device.
        hold_seconds: of the ledger, per device.
        record_seconds: of the ledger, per part.
        looked_at: devices of the ledger that are compared per second, with a million looked up together.
        entropy: octets per second that one process draws from the kernel.
        sizes: by format.
    """

    daily: Results
    plan: Results
    costs: Results
    cluster: Results
    rates: dict[int, float]
    token_rates: dict[int, float]
    plan_seconds: float
    finish_seconds: float
    hold_seconds: float
    record_seconds: float
    looked_at: float
    entropy: float
    sizes: dict[str, Sizes]


def read_measured(folder: Path) -> Measured:
    """What the results files of a folder say.

    Raises:
        OSError: one is not there.
        KeyError: one lacks a section.
    """
    path = newest(folder)
    if path is None:
        raise FileNotFoundError(f"{folder} holds no results")
    daily, plan, costs = read(path), read(folder / "plan.json"), read(folder / "costs.json")
    largest = max(plan.sections.values(), key=lambda section: int(section.settings["rows"]))
    cost = {name: {f: s.median for f, s in of.items()} for name, of in costs.sections["costs"].summary.items()}
    return Measured(
        daily=daily,
        plan=plan,
        costs=costs,
        cluster=read(folder / "dask.json"),
        rates={workers: section.summary["parquet"]["devices_per_second"].median for workers, section in daily.rates},
        token_rates={
            int(name.removeprefix("hsm-")): section.summary["parquet"]["devices_per_second"].median
            for name, section in daily.sections.items()
            if name.startswith("hsm-")
        },
        plan_seconds=1 / largest.summary["octets"]["rows_per_second"].median,
        finish_seconds=cost["parquet"]["finish_seconds_per_device"],
        hold_seconds=cost["ledger"]["hold_seconds_per_device"],
        record_seconds=cost["ledger"]["record_seconds_per_part"],
        looked_at=cost["ledger"]["looked_at_per_second"],
        entropy=cost["entropy"]["octets_per_second"],
        sizes={
            kind: Sizes(
                cost[kind]["bundle_octets_per_device"],
                cost[kind]["manifest_octets_per_device"],
                cost[kind]["sums_octets_per_device"],
            )
            for kind in ("parquet", "tar", "dir")
        },
    )
