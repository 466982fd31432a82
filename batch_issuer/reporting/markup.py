"""HTML out of small functions: what is not HTML already is escaped, so that no text of a manifest becomes markup."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Html", "joined", "printable", "table", "tag"]

_VOID = frozenset({"meta"})
"""Elements that HTML has no end tag for, as far as this page uses them; SVG's elements all have one in HTML."""


class Html(str):
    """Text that is markup; made by the functions of this module alone, and by constants."""

    __slots__ = ()


def printable(text: str) -> str:
    """Text in which nothing hides: controls, marks that turn the direction of writing, lone surrogates are shown."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _child(child: str) -> str:
    return child if isinstance(child, Html) else escape(printable(child), quote=False)


def joined(*children: str) -> Html:
    """Pieces one after the other, escaped unless they are HTML."""
    return Html("".join(map(_child, children)))


def tag(name: str, /, *children: str, **attributes: str | float) -> Html:
    """An element.

    Args:
        name: of the element.
        children: its content; escaped unless it is HTML.
        attributes: by name, `_` for `-`, one at the end dropped (`class_`); numbers are written short.
    """
    texts = [
        f' {key.rstrip("_").replace("_", "-")}="{escape(printable(_number(value)), quote=True)}"'
        for key, value in attributes.items()
    ]
    begin = f"<{name}{''.join(texts)}>"
    return Html(begin if name in _VOID else f"{begin}{joined(*children)}</{name}>")


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"


def table(caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, numbers: frozenset[int]) -> Html:
    """A table that scrolls by itself where the page is narrow.

    Args:
        caption: what it shows.
        head: the columns' names.
        rows: cells, a row's first one being its header.
        numbers: which columns hold numbers, by place; they are set to the right.
    """

    def cell(kind: str, place: int, text: str, **attributes: str) -> Html:
        return tag(kind, text, **attributes, **({"class_": "number"} if place in numbers else {}))

    lines = [
        tag(
            "tr",
            *(
                cell("td" if place else "th", place, text, **({} if place else {"scope": "row"}))
                for place, text in enumerate(row)
            ),
        )
        for row in rows
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *(cell("th", place, text, scope="col") for place, text in enumerate(head)))),
            tag("tbody", *lines),
        ),
        class_="wide",
        role="region",
        aria_label=caption,
        tabindex="0",
    )
