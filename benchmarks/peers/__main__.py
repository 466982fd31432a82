"""`python -m benchmarks.peers`: measures what is installed of the peers, and puts it into the documents."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_issuer.benchmark.machine import describe_machine
from batch_issuer.benchmark.workload import device_uuids, fastest_folder, temporary_workload
from batch_issuer.processes import available_cores
from benchmarks.peers.facts import peer_facts
from benchmarks.peers.own import OWN, own_facts, own_seconds
from benchmarks.peers.recipes import PEERS, lacking
from benchmarks.peers.running import judge, prepared
from benchmarks.peers.tables import REFERENCE, update
from benchmarks.results import Results, read
from benchmarks.results import write as write_results
from benchmarks.sections import Section

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_issuer.benchmark.figures import Round
    from batch_issuer.benchmark.workload import Workload
    from benchmarks.peers.recipes import Peer

__all__ = ["main", "measure"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "peers.md")
CHART = ROOT / "docs" / "peers.png"

_SECONDS = 1.0
"""What a peer's measurement is to take at least, with one process."""

_PILOT = 8
_OWN_DEVICES = {"dir": 40_000, "tar": 100_000, "parquet": 100_000}
_KILLED_SECONDS = 0.6
_KILLED_OWN = 4_000
_KILLED_LOOP = 3_000
"""At least, of what makes some thousand in a second: it must not be over before it is killed."""


@click.command(context_settings={"max_content_width": 100})
@click.option("--devices", type=click.IntRange(2), help="Of everybody.  [default: what each does in a second]")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Each measures everybody.")
@click.option("--workers", type=click.IntRange(1), default=available_cores, help="Processes.  [default: the cores]")
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where a temporary folder is made.  [default: /dev/shm, or where temporary files go]",
)
@click.option("--note", default="", help="What is to be known of the machine meanwhile, such as its load.")
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), default=RESULTS, help="The results' file.")
@click.option("--update-readme", "readme", is_flag=True, help="Measure nothing: put the results into the documents.")
def main(
    *,
    devices: int | None,
    rounds: int,
    workers: int,
    folder: Path | None,
    note: str,
    results: Path,
    readme: bool,
) -> None:
    """Measure what people use today beside `issue`: the same devices and CA, in turns."""
    if readme:
        _update(results)
        return
    with temporary_workload(folder or fastest_folder()) as workload:
        measured = Results(datetime.now(UTC).date().isoformat(), describe_machine(workload.folder))
        measured.sections |= measure(workload, devices, rounds, workers, _tell)
    for section in measured.sections.values():
        section.settings["note"] = note
    results.unlink(missing_ok=True)  # one measurement: nothing of an older one stays beside it
    write_results(measured, results)
    print(f"written: {results}; --update-readme puts it into the documents, with the chart")


def measure(
    workload: Workload, devices: int | None, rounds: int, workers: int, tell: Callable[[str], None]
) -> dict[str, Section]:
    """A section for one process and one for `workers`.

    Args:
        workload: the CA.
        devices: of everybody; None fits them to each one's speed.
        rounds: how often.
        workers: the other number of processes.
        tell: told how it goes on, in sentences.

    Raises:
        RunFailedError: somebody failed, or made what OpenSSL refuses.
    """
    left_out = {peer.name: why for peer in PEERS if (why := lacking(peer))}
    for name, why in left_out.items():
        tell(f"{name} is left out: {why}")
    peers = [peer for peer in PEERS if peer.name not in left_out]
    counts = {peer.name: devices or _fitting(workload, peer) for peer in peers}
    counts |= {name: devices or _OWN_DEVICES[kind] for name, kind in OWN.items()}
    tell(f"devices: {', '.join(f'{name} {count:,}' for name, count in counts.items())}")
    measured: dict[int, list[Round]] = {processes: [] for processes in sorted({1, workers})}
    for number in range(1, rounds + 1):
        for processes, found in measured.items():
            found.append(_round(workload, peers, counts, processes))
            shown = (f"{name} {figures['devices_per_second']:,.0f}/s" for name, figures in found[-1].items())
            tell(f"round {number} of {rounds}, {processes} at once: {', '.join(shown)}")
    settings: dict[str, Any] = {
        "devices": counts,
        "rounds": rounds,
        "left_out": left_out,
        "alone": {peer.name: peer.alone for peer in peers if peer.alone},
        "facts": _facts(workload, peers, counts, tell),
    }
    return {f"peers-{processes}": Section(settings, found) for processes, found in measured.items()}


def _uuids(count: int) -> list[str]:
    return [uuid.decode() for uuid in device_uuids(count, seed=0)]


def _fitting(workload: Workload, peer: Peer) -> int:
    """So many devices as take a peer about `_SECONDS`, in round figures."""
    count, seconds = _PILOT, 0.0
    while seconds < _SECONDS / 4:  # a short run measures how an interpreter starts
        count *= 1 if not seconds else max(2, min(20, int(_SECONDS / seconds)))
        seconds = _seconds(workload, peer, _uuids(count), 1)
    fitting = max(_PILOT, int(count * _SECONDS / seconds))
    zeros = 1 - len(str(fitting))
    return max(_PILOT, round(fitting, zeros))


def _seconds(workload: Workload, peer: Peer, uuids: Sequence[str], processes: int) -> float:
    with prepared(peer, workload.folder, workload.pki) as folder:
        seconds = folder.issue(uuids, processes)
        judge(folder, uuids, workload.pki)
    return seconds


def _round(workload: Workload, peers: Sequence[Peer], counts: dict[str, int], processes: int) -> Round:
    rates = {
        peer.name: counts[peer.name] / _seconds(workload, peer, _uuids(counts[peer.name]), processes)
        for peer in peers
        if processes == 1 or not peer.alone
    }
    rates |= {name: counts[name] / own_seconds(workload, name, counts[name], processes) for name in OWN}
    return {name: {"devices_per_second": rate, "slower": rates[REFERENCE] / rate} for name, rate in rates.items()}


def _facts(
    workload: Workload, peers: Sequence[Peer], counts: dict[str, int], tell: Callable[[str], None]
) -> dict[str, dict[str, str | int | None]]:
    tell("facts: each is tried out")
    found = {}
    for peer in peers:
        least = _KILLED_LOOP if peer.loop else _PILOT
        uuids = _uuids(max(least, int(counts[peer.name] * _KILLED_SECONDS / _SECONDS)))
        found[peer.name] = peer_facts(peer, workload.folder, workload.pki, uuids).to_values()
    return found | {REFERENCE: own_facts(workload, _uuids(_KILLED_OWN)).to_values()}


def _update(results: Path) -> None:
    if not results.exists():
        raise click.ClickException(f"{results} is not there: measure first")
    try:
        from benchmarks.peers.chart import draw  # noqa: PLC0415 - matplotlib is an extra, and nothing else needs it
    except ImportError:
        raise click.ClickException("the chart needs matplotlib: pip install 'batch-issuer[bench]'") from None
    measured = read(results)
    draw(measured, CHART)
    for document in DOCUMENTS:
        update(document, measured)
    print(f"README.md, docs/peers.md and docs/peers.png show {results.name}")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)


if __name__ == "__main__":
    main()
