"""A real browser without a window, by Debian's chromium: what it says about a page, and what it shows of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 120
_NOWHERE = "http://127.0.0.1:9"
"""A proxy that nobody is: whatever a page asks of a network fails."""

_CONSOLE = re.compile(r":CONSOLE:\d+\] (.*)")


@dataclass(frozen=True)
class Browser:
    """Chromium, with a profile of its own."""

    program: str
    profile: Path

    def _run(self, page: Path, *flags: str, network: bool = False) -> subprocess.CompletedProcess[str]:
        offline = () if network else (f"--proxy-server={_NOWHERE}", "--proxy-bypass-list=<-loopback>")
        command = [
            self.program,
            "--headless=new",
            "--no-sandbox",  # which root cannot have
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
            f"--user-data-dir={self.profile}",
            "--enable-logging=stderr",
            *offline,
            *flags,
            page.absolute().as_uri(),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)

    def opened(self, page: Path, *flags: str, network: bool = False) -> tuple[str, list[str]]:
        """What the page has become once it is loaded; and every line of its console."""
        done = self._run(page, "--dump-dom", *flags, network=network)
        return done.stdout, _CONSOLE.findall(done.stderr)

    def shot(self, page: Path, picture: Path, width: int, height: int, *, dark: bool = False) -> None:
        """A picture of the page, PNG."""
        scheme = ("--blink-settings=preferredColorScheme=0",) if dark else ()
        self._run(page, f"--screenshot={picture}", f"--window-size={width},{height}", *scheme)

    def printed(self, page: Path, pdf: Path, *, dark: bool = False) -> None:
        """The page on paper, PDF."""
        scheme = ("--blink-settings=preferredColorScheme=0",) if dark else ()
        self._run(page, f"--print-to-pdf={pdf}", "--no-pdf-header-footer", *scheme)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    program = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if program is None:
        if "BATCH_ISSUER_TEST_BROWSER" in os.environ:
            pytest.fail("there is no browser, and this test was asked for")
        pytest.skip("there is no browser here (Debian's chromium)")
    return Browser(program, tmp_path_factory.mktemp("browser"))


def _chunks(octets: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(octets):
        length = int.from_bytes(octets[at : at + 4])
        yield octets[at + 4 : at + 8], octets[at + 8 : at + 8 + length]
        at += length + 12


def first_pixel(picture: Path) -> tuple[int, int, int]:
    """The colour of the upper left corner: no filter of PNG changes it (PNG, section 9.2)."""
    chunks = list(_chunks(picture.read_bytes()))
    data = zlib.decompress(b"".join(content for kind, content in chunks if kind == b"IDAT"))
    palette = dict(chunks).get(b"PLTE")
    red, green, blue = data[1:4] if palette is None else palette[3 * data[1] : 3 * data[1] + 3]
    return red, green, blue


def size(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    octets = picture.read_bytes()
    return int.from_bytes(octets[16:20]), int.from_bytes(octets[20:24])
