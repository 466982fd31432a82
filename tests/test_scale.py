"""The document of a billion devices is what the script gives; the simulation is plausible, and the same every time."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # benchmarks is not installed; last, so that the package that is tested is found first

from benchmarks.measured import read_measured  # noqa: E402
from benchmarks.scale import DOCUMENT, RESULTS, document  # noqa: E402
from benchmarks.simulation import Assumed, Site, simulate  # noqa: E402

IDEAL = Assumed(
    efficiency=1,
    task_seconds=1e-9,
    put_seconds=0,
    puts_per_second=1e12,
    node_octets_per_second=1e15,
    node_loss_seconds=1e18,
)


def site(*, nodes: int = 2, part_size: int = 1000, tokens: int = 0, devices: int = 4_000_000) -> Site:
    return Site(devices=devices, nodes=nodes, part_size=part_size, rate=10_000, part_octets=700, tokens=tokens)


def test_the_document_is_what_the_script_gives() -> None:
    text = DOCUMENT.read_text()
    assert document(text, read_measured(RESULTS), Assumed()) == text


def test_a_figure_that_was_changed_by_hand_is_found() -> None:
    text = DOCUMENT.read_text()
    changed = text.replace("| 100 | 50,000 | file |", "| 100 | 50,000 | fast |")
    assert changed != text
    assert document(changed, read_measured(RESULTS), Assumed()) == text


def test_a_block_that_nobody_writes_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        document("<!-- scale:nothing -->\n<!-- /scale -->", read_measured(RESULTS), Assumed())


def test_a_task_costs_the_simulated_scheduler_what_was_measured() -> None:
    measured = read_measured(RESULTS).cluster.sections["cluster"].summary["dask 2"]["parent_seconds_per_part"]
    assert Assumed().task_seconds == round(measured.median, 3)


def test_with_nothing_in_the_way_the_workers_are_all_that_counts() -> None:
    outcome = simulate(site(), IDEAL)
    assert outcome.seconds == pytest.approx(4_000_000 / (16 * 10_000), rel=0.02)
    assert outcome.busiest == "workers"
    assert outcome.busy["workers"] > 0.98
    assert outcome.redone == 0


def test_it_is_the_same_every_time() -> None:
    assert simulate(site(), Assumed()) == simulate(site(), Assumed())


def test_more_nodes_are_never_slower() -> None:
    seconds = [simulate(site(nodes=nodes), Assumed()).seconds for nodes in (1, 2, 8, 50)]
    assert seconds == sorted(seconds, reverse=True)


@pytest.mark.parametrize(
    ("assumed", "tokens", "name", "seconds"),
    [
        (Assumed(task_seconds=0.05), 0, "scheduler", 4_000 * 0.05),
        (Assumed(puts_per_second=20), 0, "store", 2 * 4_000 / 20),
        (Assumed(token_per_second=10_000), 2, "token", 4_000_000 / 20_000),
        (Assumed(node_octets_per_second=1e6), 0, "network", 4_000_000 * 700 / 2e6),
    ],
)
def test_what_is_too_narrow_bounds_the_rate(assumed: Assumed, tokens: int, name: str, seconds: float) -> None:
    outcome = simulate(site(tokens=tokens), assumed)
    assert outcome.busiest == name
    assert outcome.seconds == pytest.approx(seconds, rel=0.05)
    assert all(share <= 1.000001 for share in outcome.busy.values())


def test_what_lost_nodes_were_making_is_made_again() -> None:
    calm = simulate(site(), IDEAL)
    lossy = simulate(site(), replace(IDEAL, node_loss_seconds=1.0))
    assert 300 < lossy.redone < 700  # a tenth of a second each: about one part of ten
    assert lossy.seconds > calm.seconds
