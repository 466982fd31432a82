"""The documents say what is true: help, output, commands, options, paths and links are checked against the program.

`BATCH_ISSUER_WRITE_DOCS=1 pytest tests/test_docs.py` writes the blocks that are copied from the program anew.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from pki import make_pki
from test_imports import LEVELS

from batch_issuer.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RELIABILITY = ROOT / "docs" / "reliability.md"
COPIED = re.compile(r"(<!-- (help|stderr): (.*?) ?-->\n```text\n)(.*?)(```\n)", re.DOTALL)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SEPARATORS = {"|", "||", "&&", ";", "&"}

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the README's reader has it: the samples, and a PKI in `pki`."""
    folder = tmp_path_factory.mktemp("factory")
    make_pki(folder / "pki")
    (folder / "sample_data").symlink_to(ROOT / "sample_data")
    return folder


def copied(kind: str, words: list[str], factory: Path) -> str:
    arguments = [*words, "--help"] if kind == "help" else words
    command = [sys.executable, "-m", "batch_issuer", *arguments]
    ended = subprocess.run(command, cwd=factory, capture_output=True, text=True, check=False)
    # Of the program itself click says how it was started.
    return ended.stdout.replace("python -m batch_issuer", "batch-issuer") if kind == "help" else ended.stderr


@documents
def test_copied_blocks_are_what_the_program_says(document: Path, factory: Path) -> None:
    text = document.read_text()
    fresh = COPIED.sub(lambda block: block[1] + copied(block[2], block[3].split(), factory) + block[5], text)
    if "BATCH_ISSUER_WRITE_DOCS" in os.environ:
        document.write_text(fresh)
    assert text == fresh


def test_every_command_is_explained() -> None:
    shown = {name for _, name in re.findall(r"<!-- (help): (.*?) ?-->", (ROOT / "docs/commands.md").read_text())}
    assert shown == {"", *leaves(cli)}


def leaves(group: click.Group, above: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        yield from leaves(command, f"{above}{name} ") if isinstance(command, click.Group) else [above + name]


def commands(document: Path) -> Iterator[list[str]]:
    """The words of every `batch-issuer` command line in a document's shell blocks and code spans."""
    text = document.read_text()
    for language, block in FENCED.findall(text):
        if language in ("console", "sh", "bash"):
            lines = block.replace("\\\n", " ").splitlines()
            if language == "console":
                lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            for line in lines:
                yield from parts(line)
    for span in re.findall(r"`([^`\n]*batch-issuer [^`\n]+)`", FENCED.sub("", text)):
        if "…" not in span:
            # A command that is only named, `batch-issuer extract`, needs no arguments: it must exist.
            yield from (words if any(map(is_argument, words)) else [*words, "--help"] for words in parts(span))


def is_argument(word: str) -> bool:
    return not re.fullmatch("[a-z-]+", word)


def parts(line: str) -> Iterator[list[str]]:
    words: list[str] = []
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True  # or a URL falls apart at its colon
    for word in [*lexer, ";"]:
        if word not in SEPARATORS:
            words.append(word)
            continue
        if ">" in words:
            words = words[: words.index(">")]
        if words and Path(words[0]).name == "batch-issuer":
            yield words[1:]
        words = []


def fault(words: list[str]) -> str | None:
    """What the program would refuse a command line for, before it does anything."""
    command: click.Command = cli
    name = "batch-issuer"
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        if name not in command.commands:
            return f"no such command: {name}"
        command = command.commands[name]
    try:
        command.make_context(name, list(words))
    except click.exceptions.Exit as end:  # --help and --version
        return None if end.exit_code == 0 else f"exit code {end.exit_code}"
    except click.UsageError as error:
        return error.format_message()
    return None


@documents
def test_commands_are_understood(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATCH_ISSUER_PKI", raising=False)
    assert {" ".join(words): wrong for words in commands(document) if (wrong := fault(words))} == {}


def test_the_readme_shows_every_command() -> None:
    shown = {words[0] for words in commands(ROOT / "README.md")}
    assert shown >= set(cli.commands)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("batch-issuer issue --manfest devices.csv", "No such option"),
        ("cat devices.csv | batch-issuer issue --out here", "Missing option '--manifest'"),
        ("batch-issuer issue --manifest devices.csv --format zip", "'zip' is not one of"),
        ("cd here && .venv/bin/batch-issuer isue", "no such command: isue"),
        ("batch-issuer ca make pki", "no such command: make"),
    ],
)
def test_a_wrong_command_is_found(line: str, wrong: str) -> None:
    [words] = parts(line)
    assert wrong in str(fault(words))


def test_a_right_command_is_not_found_wrong() -> None:
    [first, second] = parts("cat x | batch-issuer issue --manifest - -q && batch-issuer verify issued --json > report")
    assert fault(first) is None
    assert second == ["verify", "issued", "--json"]
    assert fault(second) is None


def options(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from options(below)


@documents
def test_options_exist(document: Path) -> None:
    known = {*options(cli), "--help", "-h"}
    spans = re.findall(r"`(--?[a-z][a-z0-9-]*)[^`\n]*`", FENCED.sub("", document.read_text()))
    assert sorted(set(spans) - known) == []


def slug(heading: str) -> str:
    """A heading's anchor, as code hosting sites make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def broken_links(document: Path) -> list[str]:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = document.parent / name if name else document
        if not path.exists():
            broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text()), re.MULTILINE)
            broken += [target] * (anchor not in map(slug, headings))
    return broken


@documents
def test_links_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b` c!\n[x](gone.md) [y](#a-b-c) [z](#nowhere) [w](https://example.com) ![i](page.md#a-b-c)\n")
    assert broken_links(page) == ["gone.md", "#nowhere"]


@documents
def test_files_that_are_named_exist(document: Path) -> None:
    places = r"(?:sample_data|docs|tests|benchmarks|batch_issuer|\.ci)"
    named = re.findall(rf"`({places}/[\w./*-]*)`", FENCED.sub("", document.read_text()))
    assert [name for name in named if not list(ROOT.glob(name.rstrip("/")))] == []


@documents
def test_make_targets_exist(document: Path) -> None:
    text = document.read_text()
    blocks = "\n".join(block for language, block in FENCED.findall(text) if language in ("sh", "console"))
    named = re.findall(r"`make ([a-z][\w-]*)", text) + re.findall(r"^(?:\$ )?make ([a-z][\w-]*)", blocks, re.MULTILINE)
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(set(named) - set(targets)) == []


def test_the_architecture_names_every_room_at_its_level() -> None:
    levels: list[set[str]] = []
    text = (ROOT / "docs" / "architecture.md").read_text()
    for level, room in re.findall(r"^\| (\d?) ?\| `([\w.]+)/?` \|", text, re.MULTILINE):
        if level:
            levels.append(set())
        levels[-1].add(room.removesuffix(".py"))
    assert levels == [set(level) for level in LEVELS]


def test_the_rules_name_every_room_at_its_level() -> None:
    listed = re.findall(
        r"^\d\. (`.*?)(?=\n\d\.|\n\n)", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert [set(re.findall(r"`(\w+)`", level)) for level in listed] == [set(level) for level in LEVELS]


def test_the_readme_adds_up_what_make_chaos_printed() -> None:
    lines = re.findall(r"faults (\d+), rows (\d+), lost (\d+), doubled (\d+)$", RELIABILITY.read_text(), re.MULTILINE)
    faults, rows, lost, doubled = (sum(map(int, column)) for column in zip(*lines, strict=True))
    readme = (ROOT / "README.md").read_text()
    assert f"**faults {faults:,}, rows {rows:,}, lost {lost}, doubled {doubled}**" in readme
