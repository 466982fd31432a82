"""A run on many nodes, simulated: parts through a scheduler, workers, a token and a store, from measured costs.

An event simulation, the same every time: each worker asks the scheduler for a part, makes it, lets the token sign it,
puts it and its commit record into the store, and asks again. Scheduler, token and store serve one after the other. A
node is lost now and then, and what it was making is made again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Assumed", "Outcome", "Site", "simulate"]

_SEED = 2026
_SPREAD = 0.1
"""Of the time that a part takes, as a share of it: parts are alike, nodes are not quite."""
_PUTS = 2
"""Of a part: its bundles and its commit record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What was not measured. As of 2026-11-23; other figures give another table, by the same script.

    Attributes:
        cores: of a node; a worker each.
        efficiency: of a worker of a cluster, to one of a local pool.
        task_seconds: the client's and the scheduler's time for a task; as measured here.
        put_seconds: a put's latency.
        puts_per_second: what one prefix of the store takes.
        node_octets_per_second: a node's network.
        token_per_second: signatures of one network HSM.
        node_loss_seconds: mean time until a node is lost.
        node_hour: price of a node's hour, USD.
        put_thousand: price of a thousand puts, USD.
        gigabyte_month: price of 1e9 octets for a month, USD.
    """

    cores: int = 8
    efficiency: float = 0.9
    task_seconds: float = 0.004
    put_seconds: float = 0.05
    puts_per_second: float = 3_500.0
    node_octets_per_second: float = 1.25e9
    token_per_second: float = 10_000.0
    node_loss_seconds: float = 500 * 3600.0
    node_hour: float = 0.40
    put_thousand: float = 0.005
    gigabyte_month: float = 0.023


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One run.

    Attributes:
        devices: how many.
        nodes: of the cluster.
        part_size: devices per part.
        rate: devices per second of one worker.
        part_octets: per device, that go to the store with its part.
        tokens: HSMs that share the signatures; 0 for a key in a file.
    """

    devices: int
    nodes: int
    part_size: int
    rate: float
    part_octets: float
    tokens: int = 0

    @property
    def parts(self) -> int:
        """How many parts the devices make."""
        return -(-self.devices // self.part_size)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        seconds: until the last part was committed.
        redone: parts that were made again, since their node was lost.
        busy: the share of that time in which each of `workers`, `scheduler`, `store`, `network` and `token` worked.
    """

    seconds: float
    redone: int
    busy: Mapping[str, float]

    @property
    def busiest(self) -> str:
        """What worked most, and so what bounded the rate."""
        return max(self.busy, key=lambda name: self.busy[name])


def simulate(site: Site, assumed: Assumed) -> Outcome:
    """Let a run run."""
    chance = random.Random(_SEED)  # noqa: S311 - the same every time; nothing secret
    usual = site.part_size / site.rate
    sending = site.part_size * site.part_octets * assumed.cores / assumed.node_octets_per_second
    signing = site.part_size / (site.tokens * assumed.token_per_second) if site.tokens else 0.0
    putting = _PUTS / assumed.puts_per_second
    free = {"scheduler": 0.0, "store": 0.0, "token": 0.0}
    waiting, redone, working, end = site.parts, 0, 0.0, 0.0
    events = [(0.0, worker, False) for worker in range(site.nodes * assumed.cores)]
    heapify(events)
    while events:
        now, worker, made = heappop(events)
        if made:
            free["store"] = max(free["store"], now) + putting
            done = max(free["store"], now + sending) + assumed.put_seconds
            end = max(end, done)
            heappush(events, (done, worker, False))
        elif waiting:
            waiting -= 1
            begin = free["scheduler"] = max(free["scheduler"], now) + assumed.task_seconds
            took = usual * max(0.1, chance.gauss(1.0, _SPREAD))
            free["token"] = max(free["token"], begin) + signing
            ready = max(begin + took, free["token"])
            working += took
            if chance.random() < (ready - begin) / assumed.node_loss_seconds:
                redone, waiting = redone + 1, waiting + 1
                heappush(events, (ready, worker, False))
            else:
                heappush(events, (ready, worker, True))
    given = site.parts + redone
    busy = {
        "workers": working / site.nodes / assumed.cores,
        "scheduler": given * assumed.task_seconds,
        "store": site.parts * putting,
        "network": site.parts * sending / site.nodes / assumed.cores,
        "token": given * signing,
    }
    return Outcome(end, redone, {name: seconds / end for name, seconds in busy.items()})
