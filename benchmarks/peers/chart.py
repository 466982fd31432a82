"""The chart of the peers' rates, on a logarithmic scale: they are three orders of magnitude apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from benchmarks.peers.own import OWN
from benchmarks.peers.tables import sections

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Results

__all__ = ["draw"]

_INK, _SOFT, _GRID = "#1f2933", "#616e7c", "#e4e7eb"
_COLOURS = (("#cbd2d9", "#9aa5b1"), ("#84b6fb", "#1f6feb"))
"""Of the others and of this program; with the fewest processes and with the most."""


def draw(results: Results, path: Path) -> None:
    """Draw every rate with the fewest and the most processes to a PNG file."""
    parts = sections(results)
    shown = [parts[0]] if len(parts) == 1 else [parts[0], parts[-1]]
    names = list(parts[0][1].summary)
    figure = Figure(figsize=(9.5, 0.42 * len(names) + 1.3), dpi=160, facecolor="white", layout="constrained")
    axes = figure.subplots()
    height = 0.78 / len(shown)
    for number, (processes, part) in enumerate(shown):
        for place, name in enumerate(names):
            if name not in part.summary:
                continue
            rate = part.summary[name]["devices_per_second"]
            y = place + (number - (len(shown) - 1) / 2) * height
            axes.barh(y, rate.median, height * 0.92, color=_COLOURS[name in OWN][number - len(shown)])
            text = f"{rate.median:,.0f}" + (f"  ({processes} processes)" if processes > 1 and not place else "")
            axes.text(rate.median * 1.06, y, text, va="center", fontsize=7.5, color=_INK)
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    rates = [part.summary[name]["devices_per_second"] for _, part in shown for name in part.summary]
    axes.set_xlim(min(rate.lowest for rate in rates) / 2, max(rate.highest for rate in rates) * 3)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, colors=_INK, which="both")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(
        "Devices per second, with a key and a certificate each (logarithmic)",
        loc="left",
        fontsize=11,
        color=_INK,
        fontweight="bold",
    )
    axes.set_xlabel(f"{results.machine['cpu']}, {results.machine['cores']} cores, {results.date}; medians", color=_SOFT)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
