"""Loading is checking: an `Issuer` exists only for a device CA that can sign certificates that gateways accept.

The steps of `load_issuer`; the first that fails is the error:

1. The directory and its files are there.
2. The root is a CA, signed by itself, valid now, and allows a CA below it.
3. The device CA is a CA on P-256, valid now, issued by the root, with the root's factory as its organizational unit
   and a subject that can be copied octet by octet.
4. The key is the certificate's: a signature of one verifies with the other.
5. The directory does not list it as disabled or revoked.
6. The gateway's hosts, if there is a `tls-crt`.

Sources: RFC 5280 sections 4.1 and 4.2; Go's and OpenSSL's chain rules where they are stricter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.authority import checks
from batch_issuer.authority.layout import PkiDirectory, read_file
from batch_issuer.authority.names import host_fault
from batch_issuer.authority.revocation import DISABLED, read_revocations
from batch_issuer.authority.root import read_root
from batch_issuer.authority.signers import check_pair
from batch_issuer.authority.tokens import find_key
from batch_issuer.errors import AuthorityError
from batch_issuer.profiles import ValidityWindow

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from batch_issuer.authority.signers import Passphrase, SignerSource
    from batch_issuer.authority.tokens import Token

__all__ = ["Issuer", "load_issuer"]


@dataclass(frozen=True, slots=True)
class Issuer:
    """A device CA that was checked, with the key it signs with. Picklable.

    Attributes:
        name: what the directory calls it, such as `local-ca`.
        certificate: its certificate, DER.
        root: the root's certificate, DER.
        factory: the organizational unit of every device.
        subject_key_identifier: the value in the CA's extension, for the devices' authorityKeyIdentifier, or None. It
            is copied and never computed: CAs made by Go 1.25 and later have truncated SHA-256 there, others SHA-1.
        window: the CA's own validity.
        hosts: the DNS names of `tls-crt` in order, gateway first and then ostree; () if there are none to be used.
        key: what signs. Not shown by repr.
        warnings: sentences about what is allowed and not right.
    """

    name: str
    certificate: bytes
    root: bytes
    factory: str
    subject_key_identifier: bytes | None
    window: ValidityWindow
    hosts: tuple[str, ...]
    key: SignerSource = field(repr=False)
    warnings: tuple[str, ...]


def load_issuer(
    pki: Path, name: str, *, now: datetime, passphrase: Passphrase | None = None, token: Token | None = None
) -> Issuer:
    """The device CA `name` of the directory `pki`, fit to sign.

    Args:
        pki: the PKI directory.
        name: the CA's files without their suffix.
        now: UTC.
        passphrase: asked with the key's file name, if the key is encrypted.
        token: where the key is looked for, by the CA's name as its label, if the directory has no file of it.

    Raises:
        AuthorityError: it is not there or not fit; the text says which rule it breaks.
        RunFailedError: the token fails.
    """
    directory = PkiDirectory(pki)
    root_path, ca_path, key_path = directory.root_certificate, directory.ca_certificate(name), directory.ca_key(name)
    wanted = (root_path, ca_path) if token else (root_path, ca_path, key_path)
    _check_there(directory, wanted)  # 1
    root = read_root(root_path, now)  # 2
    ca = checks.read_certificate(ca_path)  # 3
    public_key = checks.p256_key(ca_path.name, ca)
    checks.check_ca(ca_path.name, ca)
    checks.check_issued_by(ca_path.name, ca, root_path.name, root)
    checks.check_valid(ca_path.name, ca, now)
    checks.check_subject_bytes(ca_path.name, ca)
    factory = checks.factory_of(ca_path.name, ca, root_path.name, root)
    key = find_key(key_path, name, passphrase=passphrase, token=token)  # 4
    assert key is not None  # noqa: S101 - there is the file or the token
    check_pair(key.name, key.source, ca_path.name, public_key)
    _check_active(directory, root, ca_path.name, ca)  # 5
    hosts, warnings = _hosts(directory, root, now)  # 6
    identifier = checks.find_extension(ca, x509.SubjectKeyIdentifier)
    return Issuer(
        name=name,
        certificate=ca.public_bytes(Encoding.DER),
        root=root.public_bytes(Encoding.DER),
        factory=factory,
        subject_key_identifier=None if identifier is None else identifier.digest,
        window=ValidityWindow(ca.not_valid_before_utc, ca.not_valid_after_utc),
        hosts=hosts,
        key=key.source,
        warnings=(
            *key.warnings,
            *_certificate_warnings(root_path, root, ca_path, ca),
            *_bundle_warnings(directory, ca_path, ca),
            *warnings,
        ),
    )


def _check_there(directory: PkiDirectory, paths: tuple[Path, ...]) -> None:
    if not directory.path.is_dir():
        raise AuthorityError(
            f"the PKI directory {directory.path} does not exist",
            hint="--pki names another one; `batch-issuer ca create DIR --factory NAME` makes one",
        )
    if missing := [path.name for path in paths if not path.exists()]:
        hint = "--pki names another directory, --ca-name another device CA in it"
        if all(name.endswith(".key") for name in missing):
            hint += "; of a key in a token, --hsm-module and --hsm-token-label say where it is"
        raise AuthorityError(f"the PKI directory {directory.path} lacks {', '.join(missing)}", hint=hint)


def _check_active(directory: PkiDirectory, root: x509.Certificate, file: str, ca: x509.Certificate) -> None:
    reason = read_revocations(directory.revocations, root).reasons.get(ca.serial_number)
    if reason is not None:
        what, how = "revoked", "`batch-issuer ca update` with a list that has it"
        if reason == DISABLED:
            what, how = "disabled", "`batch-issuer ca enable-device-ca`"
        raise AuthorityError(
            f"{file} is {what}, {directory.revocations.name} of the directory says; gateways take no new device of it",
            hint=f"--ca-name names another device CA; {how} brings this one back",
        )


def _hosts(directory: PkiDirectory, root: x509.Certificate, now: datetime) -> tuple[tuple[str, ...], list[str]]:
    """The gateway's hosts and what is to be said of its certificate."""
    path = directory.tls_certificate
    if not path.exists():
        return (), []
    server = checks.read_certificate(path)
    warnings = []
    try:
        checks.check_issued_by(path.name, server, directory.root_certificate.name, root)
        checks.check_valid(path.name, server, now)
    except AuthorityError as fault:
        warnings.append(f"devices will not trust the gateway: {fault}")
    names = checks.find_extension(server, x509.SubjectAlternativeName)
    hosts = () if names is None else tuple(names.get_values_for_type(x509.DNSName))
    for host in hosts:
        if fault_text := host_fault(host):
            # A name less would make another one the gateway's, so none is used.
            return (), [*warnings, f"{path.name} names no usable hosts: a host {fault_text}: {host!r}"]
    return hosts, warnings


def _bundle_warnings(directory: PkiDirectory, path: Path, ca: x509.Certificate) -> list[str]:
    if not directory.device_cas.exists():
        return []
    text, _ = read_file(directory.device_cas)
    if ca.public_bytes(Encoding.PEM) in text:
        return []
    return [f"{path.name} is not among the device CAs of {directory.device_cas.name}: gateways will not trust it"]


def _certificate_warnings(root_path: Path, root: x509.Certificate, path: Path, ca: x509.Certificate) -> list[str]:
    warnings = [
        f"{file.name} has a critical extension that was not checked and that gateways may refuse: {oid}"
        for file, certificate in ((root_path, root), (path, ca))
        for oid in checks.unchecked_extensions(certificate)
    ]
    if root.not_valid_after_utc < ca.not_valid_after_utc:
        warnings.append(f"{root_path.name} ends before {path.name}, on {root.not_valid_after_utc:%Y-%m-%d}")
    return warnings
