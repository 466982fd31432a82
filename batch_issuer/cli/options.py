"""Kinds of option values, and options that more than one command has."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DURATION",
    "FILE",
    "FOLDER",
    "json_option",
    "pki_option",
    "token_file_option",
    "verbosity_options",
    "workers_option",
]

Function = TypeVar("Function", bound="Callable[..., object]")

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 36_500 * _UNITS["d"]


class Duration(click.ParamType[int]):
    """A length of time in whole seconds, minutes, hours or days: 90s, 5m, 1h, 2d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds of a value such as 1h."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        if match is None:
            self.fail(f"expected a number and s, m, h or d, such as 1h; got {value!r}", param, ctx)
        seconds = int(match[1]) * _UNITS[match[2]]
        if seconds > _LONGEST:
            self.fail(f"expected at most 36500d, got {value!r}", param, ctx)
        return seconds


DURATION = Duration()

pki_option = click.option(
    "--pki",
    type=FOLDER,
    default=Path("pki"),
    envvar="BATCH_ISSUER_PKI",
    show_default=True,
    show_envvar=True,
    help="The PKI directory: factory_ca.pem, local-ca.pem, local-ca.key.",
)

workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=lambda: len(os.sched_getaffinity(0)),
    show_default="the cores this process may use",
    help="Worker processes.",
)

token_file_option = click.option(
    "--token-file", type=FILE, help="The token for the factory's API; also $BATCH_ISSUER_TOKEN, or a prompt."
)

json_option = click.option("--json", "as_json", is_flag=True, help="The result as one JSON object on stdout.")


def verbosity_options(function: Function) -> Function:
    """`-q` and `-v`."""
    quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")
    verbose = click.option("-v", "--verbose", is_flag=True, help="More detail, and tracebacks.")
    return quiet(verbose(function))
