"""When each part of a run was made, gathered part by part, and drawn together so that a million of them fit a page."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_issuer.output.timing import PartTiming

__all__ = ["MOST_BLOCKS", "MOST_LANES", "MOST_SESSIONS", "Block", "Lane", "PartTimes", "Session"]

MOST_SESSIONS = 6
"""Commands that are drawn; of more, the last ones."""

MOST_LANES = 24
"""Workers of one command that are drawn; of more, those that began first."""

MOST_BLOCKS = 480
"""Blocks of one command's workers, about: of more parts, several that followed each other make one."""

MOST_BINS = 72
_ENOUGH = 200
"""Devices that keys and signatures have to be timed over, for a floor that means something."""
_MILLI, _MICRO = 1_000, 1_000_000


@dataclass(slots=True)
class Block:
    """Parts that one worker made, one after the other; times are seconds from the command's first part.

    Attributes:
        first: the first part's place in the run, from 0.
        start: when the first was taken up.
        end: when the last was committed.
        parts: how many.
        devices: in all of them.
    """

    first: int
    start: float
    end: float
    parts: int
    devices: int


@dataclass(slots=True)
class Lane:
    """What one worker made.

    Attributes:
        parts: how many.
        devices: in all of them.
        busy: seconds that it was at them.
        slowest: seconds of the part that took longest.
        blocks: the parts, drawn together.
    """

    parts: int
    devices: int
    busy: float
    slowest: float
    blocks: list[Block]


@dataclass(frozen=True, slots=True)
class Session:
    """What one command made of the run.

    Attributes:
        number: from 1; a resume is another one.
        began: when the command began, milliseconds since 1970 in UTC.
        seconds: from its first part's beginning to its last part's commit.
        parts: how many it committed.
        devices: in all of them.
        floor: devices per second that keys and signatures alone would come to with its workers; None if too few were
            timed.
        rates: devices per second in each of equal stretches of its time.
        lanes: its workers, in the order in which their parts stand; the first `MOST_LANES`.
        workers: how many there were.
    """

    number: int
    began: int
    seconds: float
    parts: int
    devices: int
    floor: float | None
    rates: list[float]
    lanes: list[Lane]
    workers: int


class PartTimes:
    """The times of a run's parts: a few numbers per part, none per device.

    Attributes:
        parts: how many were added.
        unknown: of these, those whose commit record does not say.
    """

    def __init__(self) -> None:
        self.parts = self.unknown = 0
        self._numbers = {name: array("q") for name in ("part", "began", "micros", "devices", "worker")}
        self._sessions: dict[int, array[int]] = {}
        self._workers: dict[str, int] = {}
        self._timed: dict[int, list[tuple[int, int]]] = {}

    def add(self, devices: int, timing: PartTiming | None) -> None:
        """The next part, in the run's order.

        Args:
            devices: how many it has.
            timing: of its commit record.
        """
        self.parts += 1
        if timing is None:
            self.unknown += 1
            return
        worker = self._workers.setdefault(timing.worker, len(self._workers))
        places = self._sessions.setdefault(timing.session, array("q"))
        places.append(len(self._numbers["part"]))
        values = (self.parts - 1, timing.began, timing.micros, devices, worker)
        for numbers, value in zip(self._numbers.values(), values, strict=True):
            numbers.append(value)
        if timing.signing_micros:
            self._timed.setdefault(timing.session, []).append((timing.signing_micros, devices))

    def sessions(self) -> list[Session]:
        """The last commands that made parts, in the order of time."""
        numbered = list(enumerate(sorted(self._sessions), 1))
        return [self._session(number, began) for number, began in numbered[-MOST_SESSIONS:]]

    @property
    def commands(self) -> int:
        """How many commands made parts."""
        return len(self._sessions)

    def _session(self, number: int, key: int) -> Session:
        spans = _Spans(self._sessions[key], self._numbers)
        seconds = max(start + took for _, start, took, _, _ in spans)
        lanes = _lanes(spans)
        return Session(
            number=number,
            began=key,
            seconds=seconds,
            parts=len(spans),
            devices=sum(devices for _, _, _, devices, _ in spans),
            floor=self._floor(key, len(lanes)),
            rates=_rates(spans, seconds),
            lanes=lanes[:MOST_LANES],
            workers=len(lanes),
        )

    def _floor(self, key: int, workers: int) -> float | None:
        timed = self._timed.get(key, [])
        devices, micros = sum(devices for _, devices in timed), sum(micros for micros, _ in timed)
        return None if devices < _ENOUGH or not micros else devices / micros * _MICRO * workers


class _Spans:
    """One command's parts: place, start and length in seconds, devices, worker; made as they are gone through."""

    def __init__(self, places: array[int], numbers: dict[str, array[int]]) -> None:
        self._places, self._numbers = places, numbers
        self._zero = min(map(numbers["began"].__getitem__, places))

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[tuple[int, float, float, int, int]]:
        parts, began, micros, devices, workers = self._numbers.values()
        zero = self._zero
        for place in self._places:
            start = (began[place] - zero) / _MILLI
            yield parts[place], start, micros[place] / _MICRO, devices[place], workers[place]


def _lanes(spans: _Spans) -> list[Lane]:
    together = -(-len(spans) // MOST_BLOCKS)
    lanes: dict[int, Lane] = {}
    for part, start, took, devices, worker in spans:
        lane = lanes.setdefault(worker, Lane(0, 0, 0.0, 0.0, []))
        if lane.parts % together == 0:
            lane.blocks.append(Block(part, start, start + took, 0, 0))
        block = lane.blocks[-1]
        block.start, block.end = min(block.start, start), max(block.end, start + took)
        block.parts += 1
        block.devices += devices
        lane.parts += 1
        lane.devices += devices
        lane.busy += took
        lane.slowest = max(lane.slowest, took)
    return list(lanes.values())


def _rates(spans: _Spans, seconds: float) -> list[float]:
    """Each part's devices, spread evenly over the time that it took."""
    bins = max(1, min(MOST_BINS, len(spans)))
    width = seconds / bins
    made = [0.0] * bins
    if not width:
        return made
    for _, start, took, devices, _ in spans:
        first, last = min(int(start / width), bins - 1), min(int((start + took) / width), bins - 1)
        if first == last or not took:
            made[last] += devices
            continue
        for place in range(first, last + 1):
            within = min(start + took, (place + 1) * width) - max(start, place * width)
            made[place] += devices * max(within, 0.0) / took
    return [devices / width for devices in made]
