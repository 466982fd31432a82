"""The man page, out of the program's own help: `python docs/make_man_page.py` writes `docs/batch-issuer.1` anew."""

from __future__ import annotations

import re
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_issuer import __version__
from batch_issuer.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PAGE", "main", "man_page"]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "batch-issuer.1"

_NAME = "batch-issuer"
_AS_TYPED = "\b"
"""What click has as the first line of a paragraph whose lines stay as they are."""


def man_page(readme: str) -> str:
    """The page in roff, by the macros of man(7).

    Args:
        readme: the README's text, whose table of exit codes is taken over.
    """
    top = click.Context(cli, info_name=_NAME)
    first = next(line for line in cleandoc(cli.help or "").splitlines() if line)
    lines = [
        rf".\" Made by docs/{Path(__file__).name} out of the program{chr(39)}s help.",
        f'.TH BATCH\\-ISSUER 1 "" "{_NAME} {__version__}" "User Commands"',
        ".SH NAME",
        rf"{_text(_NAME)} \- {_text(first.rstrip('.'))}",
        ".SH SYNOPSIS",
        *_synopsis(top),
        ".SH DESCRIPTION",
        *_paragraphs(cleandoc(cli.help or "").removeprefix(first)),
        ".SH COMMANDS",
        *(line for context in _leaves(top) for line in _command(context)),
        ".SH EXIT STATUS",
        *_exit_codes(readme),
        ".SH EXAMPLES",
        *_paragraphs((cli.epilog or "").replace("Examples:\n", "")),
        ".SH SEE ALSO",
        r".BR openssl (1),",
        r".BR age (1)",
    ]
    return "\n".join(lines) + "\n"


def _leaves(context: click.Context) -> Iterator[click.Context]:
    """Every command that does something, in the order of the help."""
    assert isinstance(context.command, click.Group)  # noqa: S101 - by the call below
    for name in context.command.list_commands(context):
        command = context.command.commands[name]
        below = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _leaves(below)
        else:
            yield below


def _command(context: click.Context) -> Iterator[str]:
    yield f'.SS "{_text(context.command_path.removeprefix(f"{_NAME} "))}"'
    yield from _synopsis(context)
    yield ".PP"
    yield from _paragraphs(cleandoc(context.command.help or ""))
    for parameter in context.command.params:
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            yield ".TP"
            yield rf"\fB{_text(record[0])}\fR"
            yield _text(record[1])


def _synopsis(context: click.Context) -> Iterator[str]:
    yield rf"\fB{_text(context.command_path)}\fR"
    yield _text(" ".join(context.command.collect_usage_pieces(context)))


def _paragraphs(text: str) -> Iterator[str]:
    written = False
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if paragraph.strip():
            yield from (".PP",) * written
            as_typed = paragraph.startswith(_AS_TYPED)
            lines = paragraph.removeprefix(_AS_TYPED).strip("\n").splitlines()
            yield from (".nf", *map(_text, lines), ".fi") if as_typed else map(_text, lines)
            written = True


def _exit_codes(readme: str) -> Iterator[str]:
    table = readme.partition("### Exit codes")[2].partition("\n\n\n")[0].split("\n#")[0]
    for code, meaning in re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE):
        yield from (".TP", rf"\fB{code}\fR", _text(meaning.replace("`", "")))


def _text(text: str) -> str:
    """As roff: nothing in it is a macro, and a hyphen is one that can be typed."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text.startswith((".", "'")) else text


def main() -> None:
    """Write the page."""
    PAGE.write_text(man_page((ROOT / "README.md").read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
