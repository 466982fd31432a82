"""How every command ends: errors become a sentence, a hint and an exit code, in this one place."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batch_issuer.errors import BatchIssuerError, Interrupted, RowsRejectedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from batch_issuer.devices import Rejections

__all__ = ["Command", "Group", "show_rejections", "tell_result"]

_SHOWN_REJECTIONS = 20


class Command(click.Command):
    """A command whose errors reach the user as `error: …` and `hint: …`; a traceback only with -v."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line, whose values can be refused as well.

        Raises:
            click.exceptions.Exit: with the error's exit code.
        """
        try:
            return super().parse_args(ctx, args)
        except BatchIssuerError as error:
            _report(ctx, error)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it.

        Raises:
            click.exceptions.Exit: with the error's exit code.
        """
        previous = signal.signal(signal.SIGTERM, _on_terminate)
        try:
            return super().invoke(ctx)
        except BatchIssuerError as error:
            _report(ctx, error)
        except KeyboardInterrupt:
            _report(ctx, Interrupted("interrupted"))
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # who read our output went away: click ends quietly
            raise
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            _report(ctx, BatchIssuerError(f"{error.strerror or error}{where}"), error)
        except Exception as error:
            message = f"this should not have happened: {type(error).__name__}: {error}"
            _report(ctx, BatchIssuerError(message, hint=_report_hint(ctx)), error)
        finally:
            signal.signal(signal.SIGTERM, previous)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def tell_result(text: str | bytes) -> None:
    """The result, on stdout. When nobody can read it, what was done is done all the same."""
    try:
        click.echo(text)
    except OSError:
        # What Python would write as it ends goes nowhere too, or it would end with an error of its own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _on_terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted("terminated")


def _report_hint(ctx: click.Context) -> str:
    return "-v shows where; please report it" if "verbose" in ctx.params else "please report it"


def _report(ctx: click.Context, error: BatchIssuerError, cause: BaseException | None = None) -> NoReturn:
    if ctx.params.get("verbose"):
        click.echo("".join(traceback.format_exception(cause or error)), err=True)
    if isinstance(error, RowsRejectedError):
        show_rejections(error.rejections)
    click.echo(f"error: {error}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    if ctx.params.get("as_json"):
        values: dict[str, Any] = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        pieces = _with_rejections(values, error.rejections) if isinstance(error, RowsRejectedError) else [_json(values)]
        for piece in pieces:
            click.echo(piece, nl=False)
        click.echo()
    ctx.exit(error.exit_code)


def _json(value: object, indent: str = "") -> str:
    return json.dumps(value, indent=2).replace("\n", "\n" + indent)


def _with_rejections(values: dict[str, Any], rejections: Rejections) -> Iterator[str]:
    """The text of an object that has the findings as its last value, a list: they may be more than memory holds."""
    yield _json(values).removesuffix("\n}") + ',\n  "rejections": ['
    for place, rejection in enumerate(rejections):
        yield ("," if place else "") + "\n    " + _json(asdict(rejection), "    ")
    yield "\n  ]\n}"


def show_rejections(rejections: Rejections) -> None:
    """The first findings about rows, on stderr."""
    for rejection in islice(rejections, _SHOWN_REJECTIONS):
        click.echo(f"{rejection.code}: {rejection.message}", err=True)
    more = len(rejections) - _SHOWN_REJECTIONS
    if more > 0:
        click.echo(f"… and {more} more; --json lists them all", err=True)
