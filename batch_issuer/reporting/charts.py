"""Rate and timeline, drawn as SVG in percentages of the width: text keeps its size from a phone to a sheet of paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_issuer.figures import counted
from batch_issuer.reporting.facts import duration, per_second
from batch_issuer.reporting.markup import Html, joined, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_issuer.reporting.times import Session

__all__ = ["drawing", "rate_chart", "timeline"]

_GAP = 1.5
"""Between two commands, percent of the width."""
_LEAST = 12.0
"""What a command gets of the width at least, percent."""

_RATE_HEIGHT, _TOP, _FOOT = 220, 26, 24
_LANE, _LANE_TEXT, _BAR = 42, 14, 16
_THINNEST = 0.15
_FEW = 2
"""Commands that a telephone's width has room for."""
_NICE = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a command stands across the drawing, percent."""

    session: Session
    left: float
    width: float

    def at(self, seconds: float) -> float:
        return self.left + self.width * min(max(seconds / (self.session.seconds or 1.0), 0.0), 1.0)


def drawing(name: str, title: str, described: str, height: float, *children: Html, wide: bool = False) -> Html:
    """An SVG that says in words what it shows, and scrolls by itself where the page is very narrow."""
    svg = tag(
        "svg",
        tag("title", title, id=f"{name}-title"),
        tag("desc", described, id=f"{name}-text"),
        *children,
        role="img",
        width="100%",
        height=height,
        aria_labelledby=f"{name}-title {name}-text",
    )
    canvas = tag("div", svg, class_=f"canvas {name}" + " many" * wide)
    return tag("div", canvas, class_="wide", role="region", aria_label=title, tabindex="0")


def rate_chart(sessions: Sequence[Session]) -> Html:
    """Devices per second over time, a bar for each stretch of it, and the floor as a dashed line."""
    most = max((*(rate for session in sessions for rate in session.rates), *(s.floor or 0.0 for s in sessions), 1.0))
    step = _nice(most / 3)
    top = most * 1.06
    base = _RATE_HEIGHT - _FOOT

    def y(rate: float) -> float:
        return base - (base - _TOP) * rate / top

    pieces = []
    marks = [step * place for place in range(1, int(top / step) + 1)]
    pieces += [tag("line", x1="0%", x2="100%", y1=y(mark), y2=y(mark), class_="grid") for mark in marks]
    for place in _places(sessions):
        bin_width = place.width / len(place.session.rates)
        for number, rate in enumerate(place.session.rates):
            pieces.append(
                tag(
                    "rect",
                    tag("title", per_second(rate)),
                    x=f"{place.left + number * bin_width:.3f}%",
                    y=y(rate),
                    width=f"{bin_width * 0.9:.3f}%",
                    height=max(base - y(rate), 0.0),
                    class_="bar",
                )
            )
        pieces += _foot(place, base)
        if place.session.floor is not None:
            pieces += _floor(place, y(place.session.floor))
    pieces += [
        tag("text", f"{mark:,.0f}" if step >= 1 else f"{mark:,.1f}", x=-10, y=y(mark) + 4, class_="label end")
        for mark in (0.0, *marks)
    ]
    pieces.append(tag("text", "devices/s", x=-10, y=12, class_="label end"))
    pieces.append(tag("line", x1="0%", x2="100%", y1=base, y2=base, class_="axis"))
    told = " ".join(_told(session) for session in sessions)
    wide = len(sessions) > _FEW
    return drawing("rate", "Devices per second over time", told, _RATE_HEIGHT, *pieces, wide=wide)


def timeline(session: Session) -> Html:
    """One command's workers, each a line of the parts that it made."""
    place, pieces = _Place(session, 0.0, 100.0), []
    height = len(session.lanes) * _LANE + 8 + _FOOT
    base = height - _FOOT
    for number, lane in enumerate(session.lanes):
        y = number * _LANE + _LANE_TEXT
        what = f"{counted(lane.parts, 'part')}, {counted(lane.devices, 'device')}"
        pieces += [
            tag("text", f"worker {number + 1}", x=0, y=y, class_="label strong"),
            tag("text", what, x="100%", y=y, class_="label end"),
            tag("rect", x="0%", y=y + 6, width="100%", height=_BAR, class_="lane"),
        ]
        for shade, block in enumerate(lane.blocks):
            left = place.at(block.start)
            wide = max(place.at(block.end) - left, _THINNEST)
            named = f"part {block.first}" if block.parts == 1 else f"{block.parts:,} parts from part {block.first}"
            title = f"{named}: {counted(block.devices, 'device')} in {duration(block.end - block.start)}"
            pieces.append(
                tag(
                    "rect",
                    tag("title", title),
                    x=f"{left:.3f}%",
                    y=y + 6,
                    width=f"{wide:.3f}%",
                    height=_BAR,
                    class_=f"block shade{shade % 2}",
                )
            )
    pieces.append(tag("line", x1="0%", x2="100%", y1=base, y2=base, class_="axis"))
    pieces += _foot(place, base)
    told = f"{counted(session.workers, 'worker')} made {counted(session.parts, 'part')} in {duration(session.seconds)}."
    return drawing(f"timeline-{session.number}", f"Parts by worker, command {session.number}", told, height, *pieces)


def _places(sessions: Sequence[Session]) -> list[_Place]:
    seconds = sum(session.seconds for session in sessions) or 1.0
    to_share = 100.0 - _GAP * (len(sessions) - 1) - _LEAST * len(sessions)
    places, left = [], 0.0
    for session in sessions:
        width = _LEAST + to_share * session.seconds / seconds
        places.append(_Place(session, left, width))
        left += width + _GAP
    return places


def _foot(place: _Place, base: float) -> list[Html]:
    right = place.left + place.width
    return [
        tag("text", "0 s" if place.left == 0 else "", x=f"{place.left:.3f}%", y=base + 17, class_="label"),
        tag("text", duration(place.session.seconds), x=f"{right:.3f}%", y=base + 17, class_="label end"),
    ]


def _floor(place: _Place, y: float) -> list[Html]:
    right = place.left + place.width
    floor = place.session.floor or 0.0
    return [
        tag("line", x1=f"{place.left:.3f}%", x2=f"{right:.3f}%", y1=y, y2=y, class_="floor"),
        tag("text", f"floor {per_second(floor)}", x=f"{right:.3f}%", y=y - 5, class_="label end halo floorlabel"),
    ]


def _told(session: Session) -> str:
    rates = f"from {per_second(min(session.rates))} to {per_second(max(session.rates))}"
    floor = "no floor is known" if session.floor is None else f"the floor is {per_second(session.floor)}"
    return joined(f"Command {session.number}: {rates}; {floor}.")


def _nice(step: float) -> float:
    """The next round number."""
    power = 1.0
    while power * 10 <= step:
        power *= 10
    while power > step:
        power /= 10
    return next(nice * power for nice in _NICE if nice * power >= step)
