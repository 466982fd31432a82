"""`batch-issuer ca show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from batch_issuer.cli.ca.backend import api_options, chosen_backend, vendor_backend
from batch_issuer.cli.command import Command, tell_result
from batch_issuer.cli.options import FOLDER, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509

    from batch_issuer.ceremony.backend import Known

__all__ = ["show"]

_ROOT, _TLS, _DEVICE_CAS = "root", "tls", "device-cas"
_HEADINGS = {
    _ROOT: "## Factory root certificate",
    _TLS: "## Server TLS certificate",
    _DEVICE_CAS: "## Device authentication certificate(s)",
}


@click.command(cls=Command)
@click.argument("directory", metavar="[DIR]", type=FOLDER, required=False)
@click.option("--pretty", is_flag=True, help="In words.")
@click.option("--just-root", "just", flag_value=_ROOT, help="Only the root.")
@click.option("--just-tls", "just", flag_value=_TLS, help="Only the gateway's certificate.")
@click.option("--just-device-cas", "just", flag_value=_DEVICE_CAS, help="Only the device CAs that the gateway trusts.")
@click.option("--factory", metavar="NAME", help="The factory, with --api and without DIR.")
@json_option
@api_options
def show(
    *,
    directory: Path | None,
    pretty: bool,
    just: str | None,
    factory: str | None,
    as_json: bool,
    api: str | None,
    token_file: Path | None,
    api_ca: Path | None,
) -> None:
    """Show the certificates in force: a directory's, or with --api those that the factory's API has.

    \b
      batch-issuer ca show pki --pretty
      batch-issuer ca show --api https://api.foundries.io --factory acme --just-device-cas > cas.pem
    """  # noqa: D301 - click's mark for "do not wrap" is the character, not its escape
    import json

    from batch_issuer.authority.layout import PkiDirectory
    from batch_issuer.errors import AuthorityError

    if directory is not None:
        if factory is not None:
            raise click.UsageError("--factory is for --api without DIR: DIR's root names its factory")
        backend = chosen_backend(PkiDirectory(directory), api, token_file, api_ca, changing=False)
    elif api is None or factory is None:
        raise click.UsageError("expected DIR, or --api URL and --factory NAME")
    else:
        backend = vendor_backend(api, factory, token_file, api_ca)
    known = backend.known()
    if known is None:
        raise AuthorityError(
            "the factory has no PKI yet", hint="`batch-issuer ca create DIR --factory NAME --api URL` makes one"
        )
    if as_json:
        tell_result(json.dumps(_values(known), indent=2, ensure_ascii=False))
        return
    parts = _parts(known, pretty=pretty)
    if just is not None:
        tell_result("\n".join(parts[just]))
        return
    tell_result("\n".join("\n".join([heading, *parts[part], ""]) for part, heading in _HEADINGS.items()).rstrip())


def _parts(known: Known, *, pretty: bool) -> dict[str, list[str]]:
    tls = [] if known.tls is None else [known.tls]
    parts = {_ROOT: [known.root], _TLS: tls, _DEVICE_CAS: list(known.device_cas)}
    return {
        part: [_shown(certificate, known, pretty=pretty) for certificate in certificates]
        for part, certificates in parts.items()
    }


def _shown(certificate: x509.Certificate, known: Known, *, pretty: bool) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    from batch_issuer.authority.description import describe_certificate

    if not pretty:
        return certificate.public_bytes(Encoding.PEM).decode().removesuffix("\n")
    state = "\nState:        disabled, no new devices" if certificate.serial_number in known.disabled else ""
    return f"{describe_certificate(certificate)}{state}\n"


def _values(known: Known) -> dict[str, Any]:
    from cryptography.hazmat.primitives.serialization import Encoding

    def value(certificate: x509.Certificate) -> dict[str, Any]:
        return {
            "subject": certificate.subject.rfc4514_string(),
            "serial_number": str(certificate.serial_number),
            "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            "pem": certificate.public_bytes(Encoding.PEM).decode(),
        }

    return {
        "root": value(known.root),
        "tls": None if known.tls is None else value(known.tls),
        "device_cas": [
            value(ca) | {"state": "disabled" if ca.serial_number in known.disabled else "active"}
            for ca in known.device_cas
        ],
    }
