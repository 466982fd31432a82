"""The arithmetic of a benchmark: rounds of figures, ratios within a round, medians over the rounds.

A machine's speed wanders while a benchmark runs. So everything is measured once in each round, a ratio is taken only
between figures of one round, and what is reported is the median of the rounds with its lowest and highest.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, TypeAlias

from batch_issuer.bundles.sealed import stored_as
from batch_issuer.minting.keys import ENGINE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "BARE_LOOP",
    "CORE",
    "C_SIGN",
    "C_SIGN_COPY",
    "FLOOR",
    "P12",
    "P12_LOOP",
    "P12_RANDOM",
    "SEALED",
    "Figures",
    "Limit",
    "Round",
    "Spread",
    "Summary",
    "by_engine",
    "kind_and_engine",
    "spread",
    "summarise",
]

FLOOR = "floor"
"""Key generation and one signature per device, nothing else."""

CORE = "core"
"""Minting, and the part's rows of the output manifest, in memory."""

BARE_LOOP = "bare loop"
"""The floor, and the folders and files of the `dir` format, with nothing that makes them safe."""

P12_LOOP = "p12 loop"
"""The floor of `p12`: keys and signatures, and one PKCS#12 file per device in memory."""

P12, P12_RANDOM = "p12", "p12 random"
"""`p12` with one password for all devices, and with one made for each."""

C_SIGN = "C_Sign loop"
"""What a token gives a bare loop of signatures with the CA's key."""

C_SIGN_COPY = "C_Sign loop, copy"
"""The same with the session's copy of the key, which SoftHSM signs with faster."""

SEALED = " sealed"
"""What the name of a format ends with that is measured with its parts sealed to one recipient."""

_USUAL_ENGINE = "openssl"
"""The engine of the floor, and of what is measured under a name that names none."""


def by_engine(kind: str, engine: str) -> str:
    """What a measurement of `kind` with a key engine is called: `parquet`, `parquet aws-lc`."""
    return kind if engine == _USUAL_ENGINE else f"{kind} {engine}"


def kind_and_engine(name: str) -> tuple[str, str]:
    """The two that such a name is made of."""
    kind, _, engine = name.rpartition(" ")
    return (kind, engine) if engine in ENGINE_NAMES else (name, _USUAL_ENGINE)


_RATE = "devices_per_second"

Figures: TypeAlias = dict[str, float]
"""What was measured of one thing, once, by the figure's name; seconds, octets and devices per second."""

Round: TypeAlias = dict[str, Figures]
"""One round's figures, by what was measured."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds."""

    median: float
    lowest: float
    highest: float


Summary: TypeAlias = dict[str, dict[str, Spread]]
"""By what was measured and by the figure's name."""


def spread(values: Iterable[float]) -> Spread:
    """The median of at least one value, with its lowest and highest."""
    ordered = sorted(values)
    return Spread(median(ordered), ordered[0], ordered[-1])


def summarise(rounds: Sequence[Round]) -> Summary:
    """Every figure's spread over the rounds, with the ratios to its floors, `of_floor` and so on, and `of_unsealed`."""
    complete = [_with_ratios(one) for one in rounds]
    return {
        name: {figure: spread(one[name][figure] for one in complete) for figure in figures}
        for name, figures in complete[0].items()
    }


def _with_ratios(one: Round) -> Round:
    """A round with each rate's ratio to the floors' in the same round, and dir's to the bare loop's."""
    extended = {name: dict(figures) for name, figures in one.items()}
    for name, figures in extended.items():
        for floor, ratio in ((FLOOR, "of_floor"), (C_SIGN, "of_c_sign"), (P12_LOOP, "of_p12_loop")):
            if floor in one and name != floor and _RATE in figures:
                figures[ratio] = figures[_RATE] / one[floor][_RATE]
        if (unsealed := _unsealed(name)) in one:
            figures["of_unsealed"] = figures[_RATE] / one[unsealed][_RATE]
        if BARE_LOOP in one and name == "dir":
            figures["of_bare_loop"] = figures[_RATE] / one[BARE_LOOP][_RATE]
    return extended


def _unsealed(name: str) -> str:
    """What is as it is, but for the seal; nothing for what has none."""
    return stored_as(name.removesuffix(SEALED), sealed=True) if name.endswith(SEALED) else ""


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure's median must reach, or must not exceed.

    Attributes:
        name: what was measured.
        figure: the figure's name.
        bound: the limit itself.
        at_most: whether the bound is the most that is allowed; otherwise the least.
    """

    name: str
    figure: str
    bound: float
    at_most: bool = False

    def holds(self, summary: Summary) -> bool:
        """Whether the median keeps to it.

        Raises:
            KeyError: that was not measured.
        """
        found = summary[self.name][self.figure].median
        return found <= self.bound if self.at_most else found >= self.bound

    def sentence(self, summary: Summary) -> str:
        """The rule and what was found."""
        found = summary[self.name][self.figure]
        rule = "at most" if self.at_most else "at least"
        return (
            f"{self.name}: {self.figure.replace('_', ' ')} must be {rule} {self.bound:,.2f}; it is {found.median:,.2f} "
            f"({found.lowest:,.2f} to {found.highest:,.2f})"
        )
