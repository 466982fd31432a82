"""The picture of the house shows the code as it is: every room, every import, nothing else.

`make pictures`, which is `BATCH_ISSUER_WRITE_DOCS=1 pytest tests/test_picture.py`, writes it anew.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from picture import PICTURE, picture
from test_imports import LEVELS, PACKAGE, SOURCES, imports

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def shown(svg: str) -> dict[str, str]:
    """What stands in each room's box, by its name."""
    found: dict[str, str] = {}
    for text in ET.fromstring(svg).iter(f"{SVG}text"):  # noqa: S314 - made here
        if text.get("class") == "name":
            name = text.text or ""
            found[name] = ""
        elif text.get("class") != "soft":
            found[name] += f"{text.text} "
    return found


def small_house(tree: Path) -> list[set[str]]:
    tree.mkdir()
    (tree / "__init__.py").touch()
    (tree / "errors.py").write_text('"""What goes wrong."""\n')
    (tree / "batch").mkdir()
    (tree / "batch" / "__init__.py").write_text('"""The story of <one> run. And more."""\n')
    (tree / "cli.py").write_text(
        '"""Options in."""\nfrom batch_issuer import errors\nfrom batch_issuer.batch import x\n'
    )
    return [{"errors"}, {"batch"}, {"cli"}]


def test_the_picture_is_what_the_code_says() -> None:
    fresh = picture(SOURCES, LEVELS)
    kept = PICTURE.read_text("utf-8") if PICTURE.exists() else ""
    if "BATCH_ISSUER_WRITE_DOCS" in os.environ:
        PICTURE.write_text(fresh, "utf-8")
    else:
        assert kept == fresh, "the picture is stale: make pictures"


def test_every_room_and_every_import_is_in_it() -> None:
    found = shown(picture(SOURCES, LEVELS))
    assert set(found) == set().union(*LEVELS)
    for _, room, target in imports(SOURCES):
        if room in found and target in found and target not in LEVELS[0] and room not in LEVELS[0]:
            assert target in found[room].partition("→ ")[2].replace(",", "").split()


def test_a_room_says_what_it_is_for_and_imports(tmp_path: Path) -> None:
    tree = tmp_path / PACKAGE
    levels = small_house(tree)
    assert shown(picture(tree, levels)) == {
        "cli": "Options in → batch ",
        "batch": "The story of <one> run ",
        "errors": "imported by 1 room ",
    }


def test_a_new_room_and_a_new_import_change_it(tmp_path: Path) -> None:
    tree = tmp_path / PACKAGE
    levels = small_house(tree)
    before = picture(tree, levels)
    (tree / "batch" / "late.py").write_text("def late():\n    from batch_issuer import errors\n")
    assert "imported by 2 rooms" in picture(tree, levels)
    (tree / "store.py").write_text('"""Where bundles are kept."""\n')
    levels[1].add("store")
    assert shown(picture(tree, levels))["store"].startswith("Where bundles are kept")
    assert shown(before).keys() == {"cli", "batch", "errors"}


def test_it_can_be_read_in_light_and_dark(tmp_path: Path) -> None:
    text = picture(tmp_path / PACKAGE, small_house(tmp_path / PACKAGE))
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text
    assert "href" not in text
