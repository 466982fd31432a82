"""What the long benchmark measures: rates, growth with N, shell to shell, verification, handshakes, a token."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from batch_issuer.benchmark.figures import C_SIGN, C_SIGN_COPY, FLOOR, P12, P12_LOOP, P12_RANDOM, by_engine, summarise
from batch_issuer.benchmark.loops import FloorLoop, P12Loop
from batch_issuer.benchmark.rounds import (
    P12_SHARE,
    USUAL_PART,
    Plan,
    installed_engines,
    measure,
    measure_rounds,
    names_of,
)
from batch_issuer.benchmark.runs import Run, issued, run_program, verify_figures
from batch_issuer.benchmark.together import rate_together
from batch_issuer.benchmark.token import token_workload, what_lacks
from batch_issuer.bundles.p12 import KDF_ROUNDS
from benchmarks.handshakes import handshake_round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_issuer.benchmark.figures import Figures, Round, Summary
    from batch_issuer.benchmark.workload import Workload

__all__ = ["FORMATS", "KINDS", "Scale", "Section", "measure_sections"]

PACKED = ("parquet", "tar.zst", "tar")
FORMATS = (*PACKED, "dir")

RATED = ("parquet", "parquet sealed", "tar.zst", "tar", "tar sealed", "dir")
"""The formats whose rates are measured, sealed ones beside those that are not."""

KINDS = ("rates", "growth", "shell", "verify", "handshakes", "hsm", "p12")
"""What `--only` may name."""

P12_ROUNDS = (10_000, 100_000, 600_000)
"""Rounds of PBKDF2 beside those that are used; the last are OWASP's."""

_SHELL_DEVICES = 1000


@dataclass(frozen=True, slots=True)
class Section:
    """One section's rounds.

    Attributes:
        settings: how it was measured.
        rounds: what was measured.
    """

    settings: dict[str, Any]
    rounds: list[Round] = field(repr=False)

    @property
    def summary(self) -> Summary:
        """The medians."""
        return summarise(self.rounds)

    def to_values(self) -> dict[str, Any]:
        """What the results file holds of it."""
        return {"settings": self.settings, "summary": _plain(self.summary), "rounds": self.rounds}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        devices: for the rates; growth goes from a tenth to ten times as many, a fiftieth is probed.
        rounds: of each section.
        workers: the numbers of processes of the rates; the other sections take the last.
    """

    devices: int
    rounds: int
    workers: tuple[int, ...]

    @property
    def growth(self) -> tuple[int, int, int]:
        """The sizes that growth is measured at."""
        return max(1, self.devices // 10), self.devices, self.devices * 10


def measure_sections(
    workload: Workload, scale: Scale, kinds: tuple[str, ...], tell: Callable[[str], None]
) -> Iterator[tuple[str, Section]]:
    """Each section by its name, when it is measured.

    Args:
        workload: the devices and their CA.
        scale: how much.
        kinds: which, of `KINDS`.
        tell: told how it goes on, in sentences.

    Raises:
        RunFailedError: a measured run failed.
    """
    if "rates" in kinds:
        for workers in scale.workers:
            tell(f"rates with {workers} processes")
            # Folders take long, and are measured once, with the most processes.
            kinds_there = RATED if workers == scale.workers[-1] else PACKED
            plan = Plan(scale.devices, scale.rounds, workers, names_of(kinds_there, installed_engines()))
            yield f"rates-{workers}", Section(asdict(plan), measure_rounds(workload, plan, tell))
    others = {
        "growth": _growth_round,
        "shell": _shell_round,
        "verify": _verify_round,
        "handshakes": handshake_round,
        "p12": _p12_round,
    }
    for name in (kind for kind in kinds if kind in others):
        rounds = []
        for number in range(1, scale.rounds + 1):
            tell(f"{name}: round {number} of {scale.rounds}")
            rounds.append(others[name](workload, scale))
        yield name, Section(asdict(scale), rounds)
    if "hsm" in kinds:
        yield from _token_sections(workload.folder.parent, scale, tell)


def _token_sections(folder: Path, scale: Scale, tell: Callable[[str], None]) -> Iterator[tuple[str, Section]]:
    """Parquet by a SoftHSM token beside what the token gives a bare loop, by numbers of processes."""
    if lacks := what_lacks():
        tell(f"hsm is left out: {lacks}")
        return
    with token_workload(folder) as workload:
        for workers in scale.workers:
            tell(f"hsm with {workers} processes")
            plan = Plan(scale.devices, scale.rounds, workers, (C_SIGN, C_SIGN_COPY, "parquet"))
            yield f"hsm-{workers}", Section(asdict(plan), measure_rounds(workload, plan, tell))


def _growth_round(workload: Workload, scale: Scale) -> Round:
    """Parquet at three sizes, its rates once started; `evenness` is the lowest of them over the highest.

    At the last of the sizes the floor is measured too, and the packed formats by each engine.
    """
    workers, most = scale.workers[-1], scale.growth[-1]
    one: Round = {FLOOR: {"devices_per_second": rate_together(FloorLoop(), most, workers)}}
    for devices in scale.growth:
        one[str(devices)] = _issue_once(workload, Run("parquet", devices, workers, USUAL_PART))
    rates = [one[str(devices)]["devices_per_second"] for devices in scale.growth]
    one["growth"] = {"evenness": min(rates) / max(rates)}
    one["parquet"] = one[str(most)]
    for engine in installed_engines():
        for kind in PACKED:
            if (name := by_engine(kind, engine)) not in one:
                one[name] = _issue_once(workload, Run(kind, most, workers, USUAL_PART, engine=engine))
    return one


def _issue_once(workload: Workload, run: Run) -> Figures:
    with issued(workload, run) as (_, figures):
        return figures


def _shell_round(workload: Workload, scale: Scale) -> Round:
    """From the shell's view: a small run, and the help."""
    help_figures, _ = run_program(workload, "--help")
    run = Run("dir", _SHELL_DEVICES, scale.workers[-1])
    return {"--help": help_figures, f"issue {_SHELL_DEVICES:,}": _issue_once(workload, run)}


def _verify_round(workload: Workload, scale: Scale) -> Round:
    """Issue in each format and verify it."""
    one: Round = {}
    workers = scale.workers[-1]
    for kind in FORMATS:
        with issued(workload, Run(kind, scale.devices, workers)) as (out, _):
            one[kind] = verify_figures(workload, out, workers)
    return one


def _p12_round(workload: Workload, scale: Scale) -> Round:
    """PKCS#12 with both kinds of passwords beside its bare loop, and that loop with more rounds of PBKDF2."""
    workers = scale.workers[-1]
    plan = Plan(scale.devices, 1, workers, (P12_LOOP, P12, P12_RANDOM))
    one: Round = {name: measure(workload, plan, name, {}) for name in plan.names}
    for rounds in P12_ROUNDS:
        devices = max(workers, scale.devices // P12_SHARE * KDF_ROUNDS // rounds)
        one[f"{rounds:,} rounds"] = {
            "devices_per_second": rate_together(P12Loop(workload.issuer, rounds), devices, workers)
        }
    return one


def _plain(summary: Summary) -> dict[str, dict[str, Any]]:
    return {name: {figure: asdict(spread) for figure, spread in figures.items()} for name, figures in summary.items()}
