"""The options that say which side holds the gateway's keys, and that side."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from batch_issuer.cli.options import FILE, token_file_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.ceremony.backend import Backend
    from batch_issuer.ceremony.vendor import VendorBackend

__all__ = ["api_options", "chosen_backend", "passphrase_option", "vendor_backend"]

Function = TypeVar("Function", bound="Callable[..., object]")

passphrase_option = click.option(
    "--ca-passphrase-file",
    type=FILE,
    help="The passphrase of an encrypted root key; also $BATCH_ISSUER_CA_PASSPHRASE, or a prompt.",
)


def api_options(function: Function) -> Function:
    """`--api`, `--token-file` and `--api-ca`."""
    url = click.option("--api", metavar="URL", help="The factory's API, which holds the gateway's keys.")
    authority = click.option(
        "--api-ca", type=FILE, help="PEM certificates to trust as the API's.  [default: the system's]"
    )
    return url(token_file_option(authority(function)))


def vendor_backend(url: str, factory: str, token_file: Path | None, api_ca: Path | None) -> VendorBackend:
    """The factory's API.

    Raises:
        RefusedError: the URL or the token is none, or a package is not installed.
    """
    from batch_issuer.cli.secrets import api_token
    from batch_issuer.extras import need_extra

    need_extra("gateway", "aiohttp")
    from batch_issuer.ceremony.vendor import VendorBackend
    from batch_issuer.factory_api.certificates import CertificateApi

    return VendorBackend(CertificateApi(url, factory, api_token(token_file), ca_file=api_ca))


def chosen_backend(
    pki: PkiDirectory,
    api: str | None,
    token_file: Path | None,
    api_ca: Path | None,
    *,
    gateway_host: str | None = None,
    ostree_host: str | None = None,
    changing: bool = True,
) -> Backend:
    """The factory's API if there is a URL, the directory itself if there is none.

    Raises:
        AuthorityError: the directory has no root; or it is to be changed without its API, which has the gateway's keys.
        RefusedError: as `vendor_backend`.
    """
    from batch_issuer.authority.checks import read_certificate
    from batch_issuer.authority.root import root_factory
    from batch_issuer.ceremony.local import LocalBackend, checked_hosts
    from batch_issuer.errors import AuthorityError

    path = pki.root_certificate
    factory = root_factory(path.name, read_certificate(path))
    if api is not None:
        return vendor_backend(api, factory, token_file, api_ca)
    held = [file.name for file in (pki.tls_certificate, pki.online_certificate) if file.exists()]
    if changing and held and not pki.gateway.exists():
        raise AuthorityError(
            f"{pki.path} has {' and '.join(held)} without their keys: a factory's API holds them, and must be told",
            hint="give --api URL",
        )
    return LocalBackend(pki, factory, checked_hosts(gateway_host, ostree_host))
