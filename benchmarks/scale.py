"""`python -m benchmarks.scale`: a billion devices, computed and simulated from the results files; writes docs/scale.md.

What stands between the document's marks is written by this, and a test compares it; what stands around them is prose
without figures.
"""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from batch_issuer.figures import counted, size
from batch_issuer.scratch import DEFAULT_MEMORY
from benchmarks.measured import read_measured
from benchmarks.simulation import Assumed, Site, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measured import Measured
    from benchmarks.simulation import Outcome

__all__ = ["DEVICES", "NODES", "document", "main"]

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "scale.md"
RESULTS = Path(__file__).parent / "results"

DEVICES = 1_000_000_000
NODES = 100
_PART_SIZES = (5_000, 50_000)
_LOOKED_AT_ONCE = DEFAULT_MEMORY // 2 // 800
"""Devices that the plan looks up in the ledger together, by default; for each such group it goes through all of it."""
_BLOCK = re.compile(r"(<!-- scale:(\w+) -->\n)(.*?)(<!-- /scale -->)", re.DOTALL)


def document(text: str, measured: Measured, assumed: Assumed) -> str:
    """The document with its blocks written anew.

    Raises:
        KeyError: it has a block that nobody writes.
    """

    def fresh(block: re.Match[str]) -> str:
        return "\n".join([block[1], *_BLOCKS[block[2]](measured, assumed), "", block[4]])

    return _BLOCK.sub(fresh, text)


def _measured(measured: Measured, _: Assumed) -> Iterator[str]:
    one, two = measured.rates[1], measured.rates[2]
    yield "| measured | |"
    yield "| --- | ---: |"
    yield f"| rate, 1 local process, `parquet` | {one:,.0f}/s |"
    yield f"| rate, 2 local processes | {two:,.0f}/s |"
    yield f"| growth from 1 to 2: of twice the first rate | {two / one / 2:.2f} |"
    if 1 in measured.token_rates:
        yield f"| rate with a SoftHSM token, 1 process | {measured.token_rates[1]:,.0f}/s |"
        yield f"| rate with a SoftHSM token, 2 processes | {measured.token_rates[2]:,.0f}/s |"
    yield f"| a part of 5,000 devices, one process | {5000 / one * 1000:,.0f} ms |"
    yield f"| the last step, in the parent | {measured.finish_seconds * 1e6:.2f} µs a device |"
    yield f"| ledger: hold | {measured.hold_seconds * 1e6:.2f} µs a device |"
    yield f"| ledger: record | {measured.record_seconds * 1e3:.2f} ms a part |"
    yield f"| ledger: look a million up | {measured.looked_at / 1e6:,.1f} million of its devices a second |"
    yield f"| entropy: getrandom(2), one process | {size(int(measured.entropy))}/s |"
    daily, costs = measured.daily, measured.costs
    of = costs.sections["costs"].settings
    yield ""
    yield (
        f"Rates: {daily.date}, {daily.machine['cpu']}, {daily.machine['cores']} cores, {daily.machine['file_system']}. "
        f"The others: {costs.date}, the same kind of machine, medians of "
        f"{counted(of['rounds'], 'round')}{_beside(of['note'])}."
    )


def _beside(note: str) -> str:
    return f"; {note}" if note else ""


def _plan(measured: Measured, _: Assumed) -> Iterator[str]:
    yield "| rows | manifest | `--plan-memory` | seconds | of CPU | most memory | rounds |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: | ---: |"
    names = {"csv": "CSV", "parquet": "Parquet, text", "octets": "Parquet, 16 octets"}
    for section in sorted(measured.plan.sections.values(), key=lambda one: int(one.settings["rows"])):
        of = section.settings
        for kind, figures in section.summary.items():
            yield (
                f"| {of['rows']:,} | {names[kind]} | {size(of['plan_memory'])} "
                f"| {figures['wall_seconds'].median:.1f} | {figures['cpu_seconds'].median:.1f} "
                f"| {figures['peak_octets'].highest / 1e6:,.0f} MB | {of['rounds']}{_beside(of['note'])} |"
            )


def _cluster(measured: Measured, assumed: Assumed) -> Iterator[str]:
    section, machine = measured.cluster.sections["cluster"], measured.cluster.machine
    of = section.settings
    yield "| who makes the parts | devices/s | of the local pool | the parent's CPU for a part more |"
    yield "| --- | ---: | ---: | ---: |"
    for name, figures in section.summary.items():
        engine, workers = name.split()
        who = f"{'Dask' if engine == 'dask' else 'local pool'}, {counted(int(workers), 'worker')}"
        ratio = f"{figures['of_local'].median:.2f}" if "of_local" in figures else ""
        cost = figures["parent_seconds_per_part"].median
        yield f"| {who} | {figures['devices_per_second'].median:,.0f} | {ratio} | {cost * 1000:.1f} ms |"
    yield ""
    yield (
        f"{of['devices']:,} devices as `parquet`, medians of {counted(of['rounds'], 'round')}, "
        f"{measured.cluster.date}, on a machine of {machine['cores']} cores, where client and scheduler, one process "
        f"here, need theirs, too. The simulation takes {assumed.efficiency:g} of a local worker's rate."
    )


def _assumed(_: Measured, assumed: Assumed) -> Iterator[str]:
    meanings = dict(re.findall(r"^ {8}(\w+): (.*)$", Assumed.__doc__ or "", re.MULTILINE))
    yield "| assumed | | |"
    yield "| --- | ---: | --- |"
    for one in fields(assumed):
        yield f"| `{one.name}` | {getattr(assumed, one.name):,g} | {meanings[one.name]} |"


def _site(measured: Measured, assumed: Assumed, nodes: int, part_size: int, tokens: int = 0) -> Site:
    # What a second process costs the first is in the rate already; what a cluster costs is assumed.
    rate = measured.rates[2] / 2 * assumed.efficiency
    return Site(
        devices=DEVICES,
        nodes=nodes,
        part_size=part_size,
        rate=rate,
        part_octets=measured.sizes["parquet"].all,
        tokens=tokens,
    )


def _run(measured: Measured, assumed: Assumed) -> Iterator[str]:
    yield "| nodes | devices per part | key | plan | parts | finish | together | busiest meanwhile | redone |"
    yield "| ---: | ---: | --- | ---: | ---: | ---: | ---: | --- | ---: |"
    plan, finish = DEVICES * measured.plan_seconds, DEVICES * measured.finish_seconds
    for nodes in (1, 10, NODES):
        for part_size in _PART_SIZES:
            for tokens in (0, 1, 4) if nodes == NODES and part_size == _PART_SIZES[-1] else (0,):
                outcome = simulate(_site(measured, assumed, nodes, part_size, tokens), assumed)
                key = f"{counted(tokens, 'HSM')}" if tokens else "file"
                yield (
                    f"| {nodes} | {part_size:,} | {key} | {_time(plan)} | {_time(outcome.seconds)} | {_time(finish)} "
                    f"| {_time(plan + outcome.seconds + finish)} | {_busiest(outcome)} | {outcome.redone:,} |"
                )


def _busiest(outcome: Outcome) -> str:
    return f"{outcome.busiest}, {outcome.busy[outcome.busiest]:.0%}"


def _octets(measured: Measured, _: Assumed) -> Iterator[str]:
    yield "| a billion devices as | bundles | manifest (Parquet) | SHA256SUMS | files |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    parts = DEVICES // _PART_SIZES[-1]
    for kind, sizes in measured.sizes.items():
        files = f"{DEVICES:,} folders" if kind == "dir" else f"{parts:,}"
        cells = (size(int(DEVICES * octets)) for octets in (sizes.bundle, sizes.manifest, sizes.sums))
        yield f"| `{kind}` | {' | '.join(cells)} | {files} |"
    yield ""
    yield (
        f"What the plan puts away beyond its memory: {size(24 * DEVICES)}, 24 octets a row, while it looks for "
        f"duplicates. With findings: an eighth of an octet a row in memory besides, {size(DEVICES // 8)}."
    )


def _money(measured: Measured, assumed: Assumed) -> Iterator[str]:
    yield "| nodes | parts of | nodes while parts are made | one node for plan and finish | puts | a month's storage |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: |"
    serial = DEVICES * (measured.plan_seconds + measured.finish_seconds) / 3600 * assumed.node_hour
    storage = DEVICES * measured.sizes["parquet"].all / 1e9 * assumed.gigabyte_month
    for nodes in (10, NODES):
        for part_size in _PART_SIZES:
            site = _site(measured, assumed, nodes, part_size)
            made = simulate(site, assumed).seconds / 3600 * nodes * assumed.node_hour
            puts = 2 * site.parts / 1000 * assumed.put_thousand
            yield f"| {nodes} | {part_size:,} | ${made:,.2f} | ${serial:,.2f} | ${puts:,.2f} | ${storage:,.2f} |"


def _breaks(measured: Measured, assumed: Assumed) -> Iterator[str]:
    """What each thing is asked for when all workers of the cluster go at their own speed, beside what it can do."""
    yield "| what | asked for | can do | asked over can |"
    yield "| --- | ---: | ---: | ---: |"
    site = _site(measured, assumed, NODES, _PART_SIZES[0])
    rate = site.rate * NODES * assumed.cores
    sizes = measured.sizes["parquet"]
    rows: list[tuple[str, float, float, Callable[[float], str]]] = [
        ("one network HSM: signatures", rate, assumed.token_per_second, _per_second),
        ("plan, duplicates included: rows", rate, 1 / measured.plan_seconds, _per_second),
        ("finish in the parent: devices", rate, 1 / measured.finish_seconds, _per_second),
        ("ledger, holding: devices", rate, 1 / measured.hold_seconds, _per_second),
        (
            "network of all nodes",
            rate * sizes.all,
            NODES * assumed.node_octets_per_second,
            lambda value: f"{size(int(value))}/s",
        ),
        (
            "entropy of one worker's kernel: serial numbers",
            site.rate * 20,
            measured.entropy,
            lambda value: f"{size(int(value))}/s",
        ),
    ]
    for part_size in _PART_SIZES:
        of = f", parts of {part_size:,}"
        rows += [
            (f"scheduler: tasks{of}", rate / part_size, 1 / assumed.task_seconds, _per_second),
            (f"store, one prefix: puts{of}", 2 * rate / part_size, assumed.puts_per_second, _per_second),
            (f"ledger, recording: parts{of}", rate / part_size, 1 / measured.record_seconds, _per_second),
        ]
    for name, asked, can, shown in sorted(rows, key=lambda row: row[1] / row[2], reverse=True):
        yield f"| {name} | {shown(asked)} | {shown(can)} | {asked / can:,.2f} |"


def _ledger(measured: Measured, _: Assumed) -> Iterator[str]:
    groups = -(-DEVICES // _LOOKED_AT_ONCE)
    once = DEVICES / measured.looked_at
    more = -(-DEVICES // (64 * _LOOKED_AT_ONCE))
    yield (
        f"With the default memory a billion devices are looked up in {groups:,} groups of {_LOOKED_AT_ONCE:,}. If the "
        f"ledger has a billion others, going through it takes about {_time(once)}, and all groups "
        f"{_time(groups * once)}; with `--plan-memory 64GB` they are {more:,}, and take about {_time(more * once)}."
    )


def _per_second(value: float) -> str:
    return f"{value:,.0f}/s"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


_BLOCKS: dict[str, Callable[[Measured, Assumed], Iterator[str]]] = {
    "measured": _measured,
    "plan": _plan,
    "cluster": _cluster,
    "assumed": _assumed,
    "run": _run,
    "octets": _octets,
    "money": _money,
    "breaks": _breaks,
    "ledger": _ledger,
}


def main() -> None:
    """Write the document's blocks anew."""
    text = DOCUMENT.read_text("utf-8")
    DOCUMENT.write_text(document(text, read_measured(RESULTS), Assumed()), "utf-8")
    print(f"{DOCUMENT.relative_to(ROOT)} shows the results of {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
