"""How every command ends: errors become a sentence, a hint and an exit code, in this one place."""

from __future__ import annotations

import json
import signal
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batch_issuer.errors import BatchIssuerError, Interrupted, RowsRejectedError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Command", "Group"]

_SHOWN_REJECTIONS = 20


class Command(click.Command):
    """A command whose errors reach the user as `error: …` and `hint: …`; a traceback only with -v."""

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
        except Exception as error:
            message = f"this should not have happened: {type(error).__name__}: {error}"
            _report(ctx, BatchIssuerError(message, hint="-v shows where; please report it"), error)
        finally:
            signal.signal(signal.SIGTERM, previous)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


def _on_terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Interrupted("terminated")


def _report(ctx: click.Context, error: BatchIssuerError, cause: BaseException | None = None) -> NoReturn:
    if ctx.params.get("verbose"):
        click.echo("".join(traceback.format_exception(cause or error)), err=True)
    if isinstance(error, RowsRejectedError):
        _show_rejections(error)
    click.echo(f"error: {error}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    if ctx.params.get("as_json"):
        values: dict[str, Any] = {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        if isinstance(error, RowsRejectedError):
            values["rejections"] = [asdict(rejection) for rejection in error.rejections]
        click.echo(json.dumps(values, indent=2))
    ctx.exit(error.exit_code)


def _show_rejections(error: RowsRejectedError) -> None:
    for rejection in error.rejections[:_SHOWN_REJECTIONS]:
        click.echo(f"{rejection.code}: {rejection.message}", err=True)
    more = len(error.rejections) - _SHOWN_REJECTIONS
    if more > 0:
        click.echo(f"… and {more} more; --json lists them all", err=True)
