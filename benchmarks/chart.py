"""The chart: rates beside the floor, and growth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.benchmark.figures import Summary
    from benchmarks.results import Results

__all__ = ["draw"]

_INK, _SOFT, _GRID = "#1f2933", "#616e7c", "#e4e7eb"
_FLOORS = ("floor", "bare loop")
_COLOURS = {"floor": "#9aa5b1", "bare loop": "#9aa5b1"}
_STRONG = "#1f6feb"
_NAMES = {
    "floor": "the floor:\nkey + signature",
    "core": "core, in memory",
    "core aws-lc": "core by AWS-LC",
    "parquet aws-lc": "parquet by AWS-LC",
    "tar.zst aws-lc": "tar.zst by AWS-LC",
    "tar aws-lc": "tar by AWS-LC",
    "bare loop": "the floor of dir:\nbare folders, files",
}


def draw(results: Results, path: Path) -> None:
    """Draw the rates of the most processes that were measured, and growth if it was, to a PNG file.

    Raises:
        ValueError: no rates were measured.
    """
    if not results.rates:
        raise ValueError("there are no rates to draw: measure them with `--only rates`")
    workers, section = results.rates[-1]
    growth = results.sections.get("growth")
    figure = Figure(figsize=(11 if growth else 6.5, 4.4), dpi=160, facecolor="white", layout="constrained")
    axes = figure.subplots(1, 2 if growth else 1, squeeze=False, width_ratios=(1.15, 1) if growth else None)[0]
    _draw_rates(axes[0], section.summary)
    processes = f"{workers} process{'' if workers == 1 else 'es'}"
    _title(axes[0], "Devices per second beside the floor", f"{processes}, {section.settings['devices']:,} devices")
    if growth:
        _draw_growth(axes[1], growth.summary)
        _title(axes[1], "The rate by the number of devices", "parquet, devices per second once started")
    machine = results.machine
    figure.supxlabel(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['file_system']}, OpenSSL {machine['openssl']}, "
        f"{results.date}; medians, whiskers from lowest to highest",
        fontsize=8,
        color=_SOFT,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _draw_rates(axes: Any, summary: Summary) -> None:
    names = list(summary)
    floor = summary["floor"]["devices_per_second"].median
    for place, name in enumerate(names):
        rate = summary[name]["devices_per_second"]
        error = [[rate.median - rate.lowest], [rate.highest - rate.median]]
        whiskers = {"ecolor": _INK, "elinewidth": 0.8, "capsize": 2}
        axes.barh(place, rate.median, 0.66, color=_COLOURS.get(name, _STRONG), xerr=error, error_kw=whiskers)
        label = f"{rate.median:,.0f}"
        if bare := summary[name].get("of_bare_loop"):
            label += f"  ({bare.median:.2f} of its own floor)"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(rate.highest + floor * 0.015, place, label, va="center", fontsize=8.5, color=_INK, bbox=box)
        if name not in _FLOORS:
            inside = f"{summary[name]['of_floor'].median:.2f} of the floor"
            axes.text(floor * 0.015, place, inside, va="center", fontsize=8.5, color="white", fontweight="bold")
    axes.axvline(floor, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(names)), [_NAMES.get(name, name) for name in names])
    axes.invert_yaxis()
    highest = max(figures["devices_per_second"].highest for figures in summary.values())
    axes.set_xlim(0, highest * 1.16)
    _plain(axes, "x")


def _draw_growth(axes: Any, summary: Summary) -> None:
    sizes = sorted(int(name) for name in summary if name.isdigit())
    rates = [summary[str(size)]["devices_per_second"] for size in sizes]
    floor = summary["floor"]["devices_per_second"].median
    axes.fill_between(sizes, [r.lowest for r in rates], [r.highest for r in rates], color=_STRONG, alpha=0.15, lw=0)
    axes.plot(sizes, [rate.median for rate in rates], color=_STRONG, linewidth=2, marker="o")
    for size, rate in zip(sizes, rates, strict=True):
        axes.annotate(
            f"{rate.median:,.0f}", (size, rate.median), (0, -16), textcoords="offset points", ha="center", fontsize=8.5
        )
    axes.axhline(floor, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.text(sizes[0], floor * 1.02, "the floor", fontsize=8.5, color=_SOFT)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlim(sizes[0] / 1.8, sizes[-1] * 1.8)
    axes.set_ylim(0, max(floor, *(rate.highest for rate in rates)) * 1.15)
    _plain(axes, "y")


def _title(axes: Any, title: str, below: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, color=_INK, fontweight="bold", pad=22)
    axes.text(0, 1.025, below, transform=axes.transAxes, fontsize=9, color=_SOFT)


def _plain(axes: Any, grid: str) -> None:
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.grid(axis=grid, color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, colors=_INK)
    value = axes.xaxis if grid == "x" else axes.yaxis
    value.set_major_formatter("{x:,.0f}")
