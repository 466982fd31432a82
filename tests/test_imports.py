"""The import rule of the house: imports point down only, and what is heavy is imported where it is needed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import batch_issuer

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "batch_issuer"
INSTALLED = Path(batch_issuer.__file__).parent
SOURCES = Path(__file__).parents[1] / PACKAGE

LEVELS = (
    {
        "errors",
        "extras",
        "devices",
        "files",
        "columns",
        "profiles",
        "processes",
        "core_dumps",
        "figures",
        "memory",
        "sums",
        "scratch",
        "stopping",
        "cluster",
    },
    {"manifest", "authority", "minting", "bundles", "output", "factory_api", "ledger", "linting", "stores"},
    {"issued", "reporting"},
    {"batch", "verification", "extraction", "ceremony", "registering", "exporting", "gateway", "probe"},
    {"benchmark"},
    {"cli"},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
LEVEL["__init__"] = -1  # knows nothing, and everything may import it
LEVEL["__main__"] = len(LEVELS)

NEVER = {("verification", room) for room in ("minting", "profiles")} | {("gateway", "factory_api")}
"""Who judges shares nothing with what it judges, though it stands above it: the two ends of a wire neither."""

HEAVY = {
    "aiohttp",
    "click",
    "cryptography",
    "dask",
    "distributed",
    "multiprocess",
    "obstore",
    "pkilint",
    "pyarrow",
    "tqdm",
}


class Import(NamedTuple):
    place: str
    room: str
    target: str


def imports(tree: Path) -> Iterator[Import]:
    """Every import of one room by another, for types only or late ones too, with the file and line it stands in."""
    modules = {_dotted(path, tree) for path in tree.rglob("*.py")}
    for path in sorted(tree.rglob("*.py")):
        own = _dotted(path, tree)
        room = _room(own) or path.stem
        for node in ast.walk(ast.parse(path.read_bytes())):
            for name in _names(node, own, is_package=path.name == "__init__.py", modules=modules):
                target = _room(name) or "__init__"
                if target != room:
                    line = getattr(node, "lineno", 0)
                    yield Import(f"{path.relative_to(tree.parent)}:{line}", room, target)


def violations(tree: Path) -> list[str]:
    found = []
    for place, room, target in imports(tree):
        if target not in LEVEL or room not in LEVEL:
            unknown = room if room not in LEVEL else target
            found.append(f"{place}: {unknown} has no level yet: give it one in {Path(__file__).name}")
        elif (room, target) in NEVER:
            found.append(f"{place}: {room} imports {target}, which it must never")
        elif LEVEL[target] > LEVEL[room] or (LEVEL[target] == LEVEL[room] > 0):
            found.append(f"{place}: {room} (level {LEVEL[room]}) imports {target} (level {LEVEL[target]})")
    return found


def _dotted(path: Path, tree: Path) -> str:
    parts = path.relative_to(tree).with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _room(dotted: str) -> str | None:
    return dotted.split(".")[1] if "." in dotted else None


def _names(node: ast.AST, own: str, *, is_package: bool, modules: set[str]) -> Iterator[str]:
    """The modules of the package that a statement, or a string for a late import, names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if re.fullmatch(rf"{PACKAGE}(\..*)?", alias.name))
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = own.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
            base = ".".join((*above, *filter(None, [base])))
        if base == PACKAGE:
            yield from (name if (name := f"{base}.{alias.name}") in modules else base for alias in node.names)
        elif base.startswith(f"{PACKAGE}."):
            yield base
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in modules - {PACKAGE}:
        yield node.value


@pytest.mark.parametrize("tree", [SOURCES, INSTALLED], ids=["sources", "installed"])
def test_imports_point_down_only(tree: Path) -> None:
    assert violations(tree) == []


def test_every_room_is_there() -> None:
    there = {path.stem for path in SOURCES.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert there == set(LEVEL)


@pytest.mark.parametrize(
    ("file", "line", "violation"),
    [
        ("errors.py", "from batch_issuer.manifest.rows import RowRules", "errors (level 0) imports manifest (level 1)"),
        ("bundles/tar.py", "from batch_issuer.output import folder", "bundles (level 1) imports output (level 1)"),
        ("minting/mint.py", "import batch_issuer.authority.issuer", "minting (level 1) imports authority (level 1)"),
        ("output/rows.py", "from ..batch.plan import Plan", "output (level 1) imports batch (level 3)"),
        ("manifest/__init__.py", "from ..minting import keys", "manifest (level 1) imports minting (level 1)"),
        ("batch/run.py", "from batch_issuer.cli.progress import Progress", "batch (level 3) imports cli (level 5)"),
        ("verification/run.py", "from batch_issuer.batch.plan import Plan", "verification (level 3) imports batch"),
        ("verification/der.py", "from batch_issuer.minting import template", "imports minting, which it must never"),
        ("verification/der.py", "from batch_issuer import profiles", "imports profiles, which it must never"),
        ("verification/der.py", "from .. import profiles as shape", "imports profiles, which it must never"),
        ("extraction.py", "from .verification.pem import unwrap", "extraction (level 3) imports verification"),
        ("__init__.py", "from batch_issuer.errors import BatchIssuerError", "__init__ (level -1) imports errors"),
        ("cli/issue.py", "import batch_issuer.__main__", "cli (level 5) imports __main__ (level 6)"),
        ("files.py", "def late():\n    from batch_issuer import batch", "files (level 0) imports batch (level 3)"),
        ("files.py", "MODULE = 'batch_issuer.batch.run'", "files (level 0) imports batch (level 3)"),
        (
            "devices.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from batch_issuer.batch.run import Run",
            "devices (level 0) imports batch (level 3)",
        ),
        ("satellite.py", "from batch_issuer import errors", "satellite has no level yet"),
    ],
)
def test_a_wrong_import_is_named(tmp_path: Path, file: str, line: str, violation: str) -> None:
    tree = tmp_path / PACKAGE
    for name in ("__init__.py", "__main__.py", "profiles.py", "batch/__init__.py", "batch/run.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    assert violations(tree) == []
    (tree / file).parent.mkdir(exist_ok=True)
    (tree / file).write_text(f"{line}\n")
    [found] = violations(tree)
    assert found.startswith(f"{PACKAGE}/{file}:")
    assert violation in found


def test_allowed_imports_are_allowed(tmp_path: Path) -> None:
    tree = tmp_path / PACKAGE
    (tree / "batch").mkdir(parents=True)
    (tree / "__init__.py").touch()
    (tree / "errors.py").write_text("from batch_issuer.devices import Rejection\n")
    (tree / "batch" / "run.py").write_text(
        "import os\nfrom batch_issuer import __version__, profiles\nfrom batch_issuer.minting.mint import Mint\n"
        "from .plan import Plan\nimport batch_issuer_of_someone_else\n"
    )
    assert violations(tree) == []


@pytest.mark.parametrize(
    ("module", "allowed"),
    [("batch_issuer", set()), ("batch_issuer.errors", set()), ("batch_issuer.cli", {"click"})],
)
def test_nothing_heavy_is_imported_at_once(module: str, allowed: set[str]) -> None:
    code = f"import {module}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert HEAVY & set(output.split()) <= allowed


@pytest.mark.skipif("BATCH_ISSUER_TEST_WHEEL" not in os.environ, reason="says so when the wheel is tested (make test)")
def test_the_built_wheel_is_what_is_tested() -> None:
    assert Path(sysconfig.get_path("purelib")) == INSTALLED.parent
    code = "import batch_issuer; print(batch_issuer.__file__)"
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert Path(child.strip()).parent == INSTALLED
    assert _files(INSTALLED) == _files(SOURCES)


def _files(tree: Path) -> dict[str, bytes]:
    files = (path for path in tree.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(tree)): path.read_bytes() for path in files}
