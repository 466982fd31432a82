"""The peers as tables: rates in the README, facts in a document of their own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_issuer.benchmark.report import machine_lines
from benchmarks.peers.facts import TRACED
from benchmarks.peers.own import OWN
from benchmarks.peers.recipes import PEERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.results import Results
    from benchmarks.sections import Section

__all__ = ["REFERENCE", "facts_table", "rates_table", "update"]

REFERENCE = "batch-issuer, dir"
"""Whose rate is compared with the others': it leaves what they leave, a folder of files for each device."""

_BLOCK = re.compile(r"(<!-- peers:(\w+) -->\n)(.*?)(<!-- /peers -->)", re.DOTALL)


def update(document: Path, results: Results) -> None:
    """Write the document's blocks anew.

    Raises:
        ValueError: it has none.
    """
    text = document.read_text("utf-8")
    tables = {"rates": rates_table, "facts": facts_table}
    fresh, count = _BLOCK.subn(lambda block: "\n".join([block[1], *tables[block[2]](results), "", block[4]]), text)
    if not count:
        raise ValueError(f"{document.name} has no <!-- peers:rates --> … <!-- /peers -->")
    document.write_text(fresh, "utf-8")


def sections(results: Results) -> list[tuple[int, Section]]:
    """The sections with their numbers of processes, ascending."""
    found = [(int(name.removeprefix("peers-")), part) for name, part in results.sections.items()]
    return sorted(found, key=lambda pair: pair[0])


def rates_table(results: Results) -> Iterator[str]:
    """Rates by the number of processes, and how many times as fast this program's folders are."""
    parts = sections(results)
    header, rule = "| | devices |", "| --- | ---: |"
    for processes, _ in parts:
        header += f" {processes} process{'' if processes == 1 else 'es'}: devices/s | `dir` is |"
        rule += " ---: | ---: |"
    yield header
    yield rule
    steps = {peer.name: f"{peer.name}: {peer.steps}" for peer in PEERS}
    steps |= {name: f"**batch-issuer**, `{kind}`" for name, kind in OWN.items()}
    for name in parts[0][1].summary:
        cells = [steps.get(name, name), f"{parts[0][1].settings['devices'][name]:,}"]
        for _, part in parts:
            figures = part.summary.get(name)
            cells.append(f"{figures['devices_per_second'].median:,.0f}" if figures else "-")
            cells.append(f"{_times(figures['slower'].median)}" if figures and name not in OWN else "")
        yield f"| {' | '.join(cells)} |"
    yield ""
    settings = parts[0][1].settings
    left = [f"{name} ({why})" for name, why in settings["left_out"].items()]
    note = f"; {settings['note']}" if settings["note"] else ""
    missing = f"Not measured: {'; '.join(left)}. " if left else ""
    yield (
        "Devices per second from the start of the program to its end, medians of "
        f"{settings['rounds']} rounds in turns; ratios are taken within a round. Each has as many devices as it does "
        "in a second or so, this program more. "
        f"One at a time: {'; '.join(f'`{name}`, {why}' for name, why in settings['alone'].items())}. "
        f"{missing}On {results.date}: {'; '.join(machine_lines(results.machine))}{note}."
    )


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times as fast" if ratio >= 10 else f"{ratio:,.1f} times as fast"


def facts_table(results: Results) -> Iterator[str]:
    """What was found out about each besides its rate."""
    settings = sections(results)[0][1].settings
    yield (
        "| | certificates beside the profile | key file | a device listed twice | bad CSRs | killed, started again "
        "| syncs |"
    )
    yield "| --- | --- | --- | --- | --- | --- | ---: |"
    for name, facts in settings["facts"].items():
        syncs = "not measured" if facts["syncs"] is None else str(facts["syncs"])
        cells = [
            name.replace(", dir", ""),
            facts["profile"] or "the same",
            facts["key_mode"],
            facts["twice"],
            facts["requests"] or "takes none here",
            facts["killed"],
            syncs,
        ]
        yield f"| {' | '.join(cells)} |"
    yield ""
    versions = dict.fromkeys(_version(name, facts["version"]) for name, facts in settings["facts"].items())
    yield f"Syncs: calls that make files durable, counted by strace; {TRACED} devices. {', '.join(versions)}."


def _version(name: str, said: str) -> str:
    number = re.search(r"\d+(\.\d+)+\w*", said)
    return f"{re.split('[, ]', name)[0]} {number[0] if number else 'unknown'}"
