"""Reading report.html strictly: every element closed where it must be, nothing there that could load or run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

ALLOWED = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "header",
    "main",
    "footer",
    "section",
    "article",
    "div",
    "p",
    "span",
    "strong",
    "h1",
    "h2",
    "h3",
    "ol",
    "ul",
    "li",
    "dl",
    "dt",
    "dd",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "pre",
    "code",
    "svg",
    "desc",
    "rect",
    "line",
    "text",
}
VOID = frozenset({"meta"})
LOADING = re.compile(r"url\(|@import|https?:|//|javascript:|data:", re.IGNORECASE)


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, name: str, **attributes: str) -> list[Element]:
        """Every element of a name below this one, with these attributes."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                if child.name == name and all(child.attributes.get(k.rstrip("_")) == v for k, v in attributes.items()):
                    found.append(child)
                found += child.all(name, **attributes)
        return found

    def rows(self, caption: str) -> list[list[str]]:
        """The body of the one table with this caption."""
        [table] = [table for table in self.all("table") if table.all("caption")[0].text == caption]
        lines = table.all("tbody")[0].all("tr")
        return [[cell.text for cell in line.children if isinstance(cell, Element)] for line in lines]

    def facts(self) -> dict[str, str]:
        """What was asked."""
        [facts] = self.all("dl", class_="facts")
        return {pair.all("dt")[0].text: pair.all("dd")[0].text for pair in facts.all("div")}

    def tiles(self) -> dict[str, str]:
        """The figures at the top."""
        [tiles] = self.all("dl", class_="tiles")
        return {tile.all("dt")[0].text: tile.all("dd", class_="big")[0].text for tile in tiles.all("div")}


class _Strict(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("", {})]
        self.doctypes: list[str] = []

    def handle_decl(self, decl: str) -> None:
        self.doctypes.append(decl)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, f"<{tag}> has no place in a report"
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice: {names}"
        for name, value in attrs:
            assert value is not None, f"<{tag} {name}> has no value"
            assert not name.startswith("on"), f"<{tag} {name}> is a script"
            assert name not in {"href", "src", "style", "xlink:href", "action", "srcset"}, f"<{tag} {name}> loads"
            assert tag == "meta" or not LOADING.search(value), f"<{tag} {name}={value}> leads somewhere"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        last = self.open.pop()
        assert last.name == tag, f"</{tag}> where <{last.name}> is open"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"a processing instruction: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


def parsed(page: bytes) -> Element:
    """The page's `html`; an AssertionError says what is wrong with it."""
    parser = _Strict()
    parser.feed(page.decode("utf-8"))
    parser.close()
    assert parser.doctypes == ["doctype html"]
    assert len(parser.open) == 1, f"<{parser.open[-1].name}> is not closed"
    [html] = [child for child in parser.open[0].children if isinstance(child, Element)]
    ids = [element.attributes["id"] for element in _elements(html) if "id" in element.attributes]
    assert len(set(ids)) == len(ids), f"an id is there twice: {ids}"
    for element in _elements(html):
        for name in element.attributes.get("aria-labelledby", "").split():
            assert name in ids, f"nothing has the id {name}"
    [style] = html.all("style")
    assert not LOADING.search(style.text)
    return html


def _elements(html: Element) -> list[Element]:
    return [html, *(e for child in html.children if isinstance(child, Element) for e in _elements(child))]
