"""Kinds of option values, and options that more than one command has."""

from __future__ import annotations

import os
import re
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    from batch_issuer.authority.tokens import Token

__all__ = [
    "COPY_HINT",
    "DURATION",
    "FILE",
    "FOLDER",
    "OUT_FOLDER",
    "PLACE",
    "SIZE",
    "PathOrAddress",
    "hsm_options",
    "identity_option",
    "json_option",
    "pki_option",
    "scratch_option",
    "token_file_option",
    "verbosity_options",
    "workers_option",
]

Function = TypeVar("Function", bound="Callable[..., object]")


class _LocalFile(click.Path):
    """A file's path; as a path, an address in a store would be that of a file in a folder called `s3:`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Path."""
        from batch_issuer.stores.address import is_address

        if isinstance(value, str) and is_address(value):
            self.fail("it must be a file of this machine; it is an address.", param, ctx)
        return super().convert(value, param, ctx)


FILE = _LocalFile(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


class PathOrAddress(click.ParamType[object]):
    """A path, or an address of a place in an object store.

    Args:
        path: what kind of path.
    """

    def __init__(self, path: click.Path) -> None:
        self._path = path
        self.name = path.name

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """A StoreAddress or a Path."""
        from batch_issuer.stores.address import is_address, parse_address

        if isinstance(value, str) and is_address(value):
            return parse_address(value)
        return self._path.convert(value, param, ctx) if isinstance(value, (str, Path)) else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What a shell offers: paths, since stores are not asked."""
        return self._path.shell_complete(ctx, param, incomplete)


PLACE = PathOrAddress(FOLDER)


COPY_HINT = "copy it here first, with umask 077: `aws s3 cp --recursive`, or `rclone copy`"
"""What to do with a run in a store that a command cannot read there."""


class LocalFolder(PathOrAddress):
    """A folder, for commands that go through all bundles more than once: what is in a store must be copied first."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """The Path.

        Raises:
            RefusedError: it is an address.
        """
        from batch_issuer.errors import RefusedError

        place = super().convert(value, param, ctx)
        if not isinstance(place, Path):
            raise RefusedError(
                f"this command reads a folder, and {place} is in an object store",
                hint=COPY_HINT,
            )
        return place


OUT_FOLDER = LocalFolder(FOLDER)

scratch_option = click.option(
    "--scratch",
    type=FOLDER,
    help="For s3://: a folder for parts on their way, with keys; on a disk that you trust.  [default: $TMPDIR]",
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SMALLEST_SIZE = 1_000_000
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


class Size(click.ParamType[int]):
    """Octets, in kB, MB, GB or in KiB, MiB, GiB: 512MB, 2GiB."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The octets of a value such as 512MB."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,9}) ?([kKMGT])(i?)B", str(value))
        if match is None:
            self.fail(f"expected a number and kB, MB, GB or TB, such as 512MB; got {value!r}", param, ctx)
        octets: int = int(match[1]) * (1024 if match[3] else 1000) ** ("KMGT".index(match[2].upper()) + 1)
        if octets < _SMALLEST_SIZE:
            self.fail(f"expected at least 1MB, got {value!r}", param, ctx)
        return octets


SIZE = Size()

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

identity_option = click.option(
    "--identity",
    "identity_files",
    type=FILE,
    multiple=True,
    help="What opens sealed bundles: a file of age-keygen, or an SSH key; may be repeated.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="The result as one JSON object on stdout.")


def verbosity_options(function: Function) -> Function:
    """`-q` and `-v`."""
    quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")
    verbose = click.option("-v", "--verbose", is_flag=True, help="More detail, and tracebacks.")
    return quiet(verbose(function))


def hsm_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--hsm-module`, `--hsm-token-label` and `--hsm-pin-file`; the function gets them as one `token`, or None.

    The environment's PIN is taken out of it before the function begins, and so before it starts any process.
    """

    @wraps(function)
    def with_token(
        *arguments: Any, hsm_module: Path | None, hsm_token_label: str | None, hsm_pin_file: Path | None, **options: Any
    ) -> Any:
        return function(*arguments, token=_token(hsm_module, hsm_token_label, hsm_pin_file), **options)

    module = click.option("--hsm-module", type=FILE, help="The PKCS#11 library of a token that holds a CA's key.")
    label = click.option("--hsm-token-label", metavar="LABEL", help="Which token of the library.")
    pin = click.option("--hsm-pin-file", type=FILE, help="Its PIN; also $BATCH_ISSUER_HSM_PIN, or a prompt.")
    return module(label(pin(with_token)))


def _token(module: Path | None, label: str | None, pin_file: Path | None) -> Token | None:
    from batch_issuer.cli.secrets import hsm_pin
    from batch_issuer.extras import need_extra

    pin = hsm_pin(pin_file)
    if module is None or label is None:
        if module is not None or label is not None:
            raise click.UsageError("--hsm-module and --hsm-token-label go together")
        if pin_file is not None:
            raise click.UsageError("--hsm-pin-file is for --hsm-module and --hsm-token-label")
        return None
    need_extra("hsm", "pkcs11")
    from batch_issuer.authority.tokens import Token

    return Token(module.absolute(), label, pin)
