"""`batch-issuer lint`: an outside judge of certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from batch_issuer.cli.command import Command, tell_result
from batch_issuer.cli.options import FILE, json_option, verbosity_options
from batch_issuer.figures import counted

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.linting.files import Report

__all__ = ["lint"]

_FOUND = 4


@click.command(cls=Command)
@click.argument("certificates", metavar="CERT...", nargs=-1, required=True, type=FILE)
@json_option
@verbosity_options
def lint(certificates: tuple[Path, ...], *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Have certificates judged by pkilint under the rules of RFC 5280; PEM (one or more), or DER.

    \b
    Examples:
      batch-issuer lint pki/factory_ca.pem pki/local-ca.pem pki/tls-crt
      batch-issuer lint issued/bundles/*/client.pem pki/local-ca.pem

    What comes from the factory's fixed profiles is explained, and no fault; -v shows it, and mere notices. A CA that is
    given with what it issued explains more. Exit code 4 when an error or a warning is left. Signatures are not checked:
    that is `batch-issuer verify`.
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    from batch_issuer.extras import need_extra

    need_extra("lint", "pkilint")
    from batch_issuer.linting.files import lint_files

    report = lint_files(certificates)
    for one in report.certificates:
        for finding in one.findings:
            if finding.wrong or verbose:
                click.echo(f"{one.name}: {finding}", err=True)
    if as_json:
        tell_result(_json(report))
    elif report.wrong or not quiet:
        tell_result(_told(report))
    if report.wrong:
        click.get_current_context().exit(_FOUND)


def _told(report: Report) -> str:
    what = counted(report.wrong, "finding") if report.wrong else "nothing is wrong"
    more = (
        f"; {counted(report.explained, 'finding')} explained by fixed profiles, -v shows why"
        if report.explained
        else ""
    )
    return f"{counted(len(report.certificates), 'certificate')} judged by {report.judge}: {what}{more}"


def _json(report: Report) -> str:
    import json
    from dataclasses import asdict

    return json.dumps(asdict(report) | {"wrong": report.wrong}, indent=2)
