"""The results file: one per day, its sections replaced when they are measured again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.sections import Section

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.benchmark.machine import Machine

__all__ = ["Results", "newest", "read", "write"]


@dataclass(slots=True)
class Results:
    """What was measured on one machine.

    Attributes:
        date: ISO 8601.
        machine: what it was measured on.
        sections: by name.
    """

    date: str
    machine: Machine
    sections: dict[str, Section] = field(default_factory=dict)

    @property
    def rates(self) -> list[tuple[int, Section]]:
        """The sections of rates with their numbers of processes, ascending."""
        found = [(name.removeprefix("rates-"), part) for name, part in self.sections.items() if "rates-" in name]
        return sorted(((int(workers), section) for workers, section in found), key=lambda pair: pair[0])


def read(path: Path) -> Results:
    """The results in a file."""
    values: dict[str, Any] = json.loads(path.read_text("utf-8"))
    sections = {name: Section(part["settings"], part["rounds"]) for name, part in values["sections"].items()}
    return Results(values["date"], values["machine"], sections)


def write(results: Results, path: Path) -> None:
    """Put the results into a file; what it has of the same machine and versions stays, unless it is measured anew."""
    if path.exists():
        before = read(path)
        if before.machine == results.machine:
            results.sections = before.sections | results.sections
    values = {
        "date": results.date,
        "machine": results.machine,
        "sections": {name: section.to_values() for name, section in results.sections.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=1) + "\n", "utf-8")


def newest(folder: Path) -> Path | None:
    """The newest results file of the long benchmark in a folder."""
    return max(folder.glob("????-??-??.json"), default=None, key=lambda path: path.name)
