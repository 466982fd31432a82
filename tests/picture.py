"""The picture of the house, out of its code: levels of rooms, what each is for, and what it imports.

The levels and the reader of imports are those of `test_imports.py`; what a room is for is its docstring's first
sentence. `make pictures` writes `docs/architecture.svg` anew.
"""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from test_imports import imports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

PICTURE = Path(__file__).parents[1] / "docs" / "architecture.svg"

WIDTH = 960
LEFT = 34  # of the boxes; the arrow stands before them
GAP = 10
LINE = 15
NAME = 20

STYLE = """
  svg { color-scheme: light dark; font-family: ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif }
  text { font-size: 11.5px; fill: #3e4c59 }
  .name { font-size: 13.5px; font-weight: 600; fill: #102a43 }
  .imports { font-size: 11px; fill: #0b5cad }
  .soft { fill: #52606d }
  .band { fill: #7b8794; fill-opacity: .1 }
  .room { fill: #ffffff; stroke: #9aa5b1 }
  .way { stroke: #7b8794; stroke-width: 1.5; fill: none }
  .head { fill: #7b8794 }
  @media (prefers-color-scheme: dark) {
    text { fill: #cbd2d9 }
    .name { fill: #f5f7fa }
    .imports { fill: #79b8ff }
    .soft { fill: #9aa5b1 }
    .room { fill: #161b22; stroke: #52606d }
  }
"""


class Box(NamedTuple):
    name: str
    lines: list[str]  # what it is for
    below: list[str]  # what it imports, or who imports it

    @property
    def height(self) -> int:
        return NAME + LINE * (len(self.lines) + len(self.below)) + 12


def picture(tree: Path, levels: Sequence[Set[str]]) -> str:
    """The picture of a package as SVG, the highest level at the top."""
    edges = {(room, target) for _, room, target in imports(tree)}
    parts: list[str] = []
    top = 12
    for number in reversed(range(len(levels))):
        columns = 6 if number == 0 else min(4, len(levels[number]))
        width = (WIDTH - LEFT - GAP * (columns + 1)) // columns
        boxes = [_box(tree, room, edges, levels, width) for room in sorted(levels[number])]
        rows = [boxes[start : start + columns] for start in range(0, len(boxes), columns)]
        heights = [max(box.height for box in row) for row in rows]
        tall = sum(heights) + GAP * (len(rows) + 1)
        parts.append(f'<rect class="band" x="{LEFT}" y="{top}" width="{WIDTH - LEFT}" height="{tall}" rx="8"/>')
        parts.append(f'<text class="soft" x="16" y="{top + 22}">{number + 1}</text>')
        y = top + GAP
        for row, height in zip(rows, heights, strict=True):
            for place, box in enumerate(row):
                parts += _drawn(box, LEFT + GAP + place * (width + GAP), y, width, height)
            y += height + GAP
        top += tall + GAP
    arrow = f'<path class="way" d="M8 14V{top - 22}"/><path class="head" d="M3 {top - 24}h10l-5 10z"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
        f'aria-label="The rooms of {escape(tree.name)} by level; imports point down">\n<style>{STYLE}</style>\n'
        + "\n".join([arrow, *parts])
        + "\n</svg>\n"
    )


def _box(tree: Path, room: str, edges: set[tuple[str, str]], levels: Sequence[Set[str]], width: int) -> Box:
    letters = round(width / 6.6)
    if room in levels[0]:
        users = Counter(target for _, target in edges)[room]
        return Box(room, [], [f"imported by {users} room{'' if users == 1 else 's'}"])
    targets = sorted(target for one, target in edges if one == room and target not in levels[0] | {"__init__"})
    below = textwrap.wrap("→ " + ", ".join(targets), letters) if targets else []
    return Box(room, textwrap.wrap(purpose(tree, room), letters), below)


def purpose(tree: Path, room: str) -> str:
    """The first sentence of its docstring."""
    path = tree / room / "__init__.py" if (tree / room).is_dir() else tree / f"{room}.py"
    text = " ".join((ast.get_docstring(ast.parse(path.read_bytes())) or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".")


def _drawn(box: Box, x: int, y: int, width: int, height: int) -> Iterator[str]:
    yield f'<rect class="room" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>'
    yield f'<text class="name" x="{x + 9}" y="{y + NAME}">{escape(box.name)}</text>'
    for place, line in enumerate([*box.lines, *box.below], start=1):
        kind = ' class="imports"' if place > len(box.lines) else ""
        yield f'<text{kind} x="{x + 9}" y="{y + NAME + LINE * place + 2}">{escape(line)}</text>'
