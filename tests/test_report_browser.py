"""report.html in a real browser: it is shown as it should be, in light, in dark and on paper, and nothing is loaded."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Browser, browser, first_pixel, size
from judges import csv_bytes, device_uuids, issue
from listeners import QuietServer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["browser"]

DOCS = Path(__file__).parents[1] / "docs"
LIGHT, DARK = (0xF4, 0xF6, 0xF9), (0x0E, 0x13, 0x1A)
ROWS = [*device_uuids(8), "<script>alert(1)</script>", "bad"]
WIDTHS = (360, 800, 1400)

pytestmark = pytest.mark.usefixtures("work")


@pytest.fixture
def page(work: Path) -> Path:
    assert issue(csv_bytes(ROWS), "--skip-rejects").code == 3
    return work / "issued" / "report.html"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A server on loopback: its URL, and what it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with QuietServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()


def test_it_opens_without_a_word_on_the_console(browser: Browser, page: Path) -> None:
    """There is no network here, and no script: nothing changes the page that was written."""
    shown, console = browser.opened(page)
    assert console == []
    assert "<h1>8 device certificates issued" in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert shown.count("<rect") == page.read_text().count("<rect")


@pytest.mark.parametrize(
    "planted",
    ["<script>fetch('URL/script')</script>", "<img src='URL/image'>", "<p style=\"background:url('URL/style')\">x</p>"],
    ids=["script", "image", "style"],
)
def test_what_is_planted_in_it_does_nothing(
    browser: Browser, page: Path, asked: tuple[str, list[str]], planted: str
) -> None:
    """Were a text not escaped, the policy would still stand; without the policy it works, so this can tell."""
    url, paths = asked
    text = page.read_text().replace("<main>", "<main>" + planted.replace("URL", url))
    page.write_text(text)
    _, console = browser.opened(page, network=True)
    assert len(console) == 1
    assert "Content Security Policy" in console[0]
    assert paths == []
    page.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text))
    browser.opened(page, network=True)
    assert len(paths) == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_follows_the_readers_colours(browser: Browser, page: Path, dark: bool, tmp_path: Path) -> None:
    picture = tmp_path / "shot.png"
    browser.shot(page, picture, 900, 700, dark=dark)
    assert size(picture) == (900, 700)
    assert first_pixel(picture) == (DARK if dark else LIGHT)


def test_without_its_style_sheet_it_would_not(browser: Browser, page: Path, tmp_path: Path) -> None:
    """The twin: one octet of the style sheet changed, and the policy refuses all of it."""
    page.write_text(page.read_text().replace("max-width: 66rem", "max-width: 67rem"))
    _, console = browser.opened(page)
    assert len(console) == 1
    picture = tmp_path / "shot.png"
    browser.shot(page, picture, 900, 700)
    assert first_pixel(picture) == (255, 255, 255)


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_a_telephone_and_a_desk(browser: Browser, page: Path, width: int) -> None:
    """A frame of that width, measured by a script that the copy allows: the page is never wider than what is seen."""
    measure = (
        "<script>const t=document.documentElement;t.setAttribute('data-over',t.scrollWidth-t.clientWidth);"
        "parent.postMessage([t.clientWidth,t.scrollWidth],'*')</script>"
    )
    free = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    found = {}
    wide = free.replace("<main>", f'<main><div style="width:{width + 100}px">x</div>')
    for name, text in (("good", free), ("wide", wide)):
        copy = page.with_name(f"{name}.html")
        copy.write_text(text.replace("</body>", f"{measure}</body>"))
        frame = page.with_name(f"frame-{name}.html")
        frame.write_text(
            f'<!doctype html><iframe src="{copy.name}" width="{width}" height="900"></iframe><script>'
            "onmessage=e=>document.body.setAttribute('data-found',e.data.join())</script>"
        )
        shown, _ = browser.opened(frame, "--virtual-time-budget=5000")
        [(seen, whole)] = re.findall(r'data-found="(\d+),(\d+)"', shown)
        assert int(seen) == width
        found[name] = int(whole)
    assert found["good"] == width
    assert found["wide"] > width


def test_it_prints(browser: Browser, page: Path, tmp_path: Path) -> None:
    pdf = tmp_path / "report.pdf"
    browser.printed(page, pdf, dark=True)
    octets = pdf.read_bytes()
    assert octets.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", octets)) <= 6


@pytest.mark.parametrize("name", ["report-light.png", "report-dark.png"])
def test_the_pictures_in_the_docs_are_small(name: str) -> None:
    picture = DOCS / name
    assert picture.stat().st_size < 300_000
    assert first_pixel(picture) == (DARK if "dark" in name else LIGHT)
    assert f"({name})" in (DOCS / "report.md").read_text()
