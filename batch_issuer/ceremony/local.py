"""The backend of a factory that stands alone: what the vendor would hold lies in the directory's `gateway` folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer import profiles
from batch_issuer.authority.checks import find_extension, p256_key, read_certificate
from batch_issuer.authority.device_cas import recorded_device_cas
from batch_issuer.authority.layout import FILE_MODE, key_pem, replace_keeping_old
from batch_issuer.authority.names import LONGEST_TEXT, host_fault
from batch_issuer.authority.revocation import DISABLED, read_revocations
from batch_issuer.authority.signers import check_pair, read_key
from batch_issuer.ceremony.backend import Known, Requests
from batch_issuer.errors import AuthorityError
from batch_issuer.files import make_directory, replace_file, sync_directory

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.authority.layout import PkiDirectory
from batch_issuer.ceremony.backend import Change

__all__ = ["LocalBackend", "checked_hosts"]

_ONLINE_NAME = "online-ca"


class LocalBackend:
    """A backend in the directory itself.

    Args:
        pki: the directory.
        factory: the factory's name.
        hosts: DNS names of the gateway's certificate, the gateway's first; none: those of its present certificate.
    """

    def __init__(self, pki: PkiDirectory, factory: str, hosts: tuple[str, ...] = ()) -> None:
        self._pki = pki
        self._factory = factory
        self._hosts = hosts
        self._keys: dict[Path, ec.EllipticCurvePrivateKey] = {}

    def user_id(self) -> str | None:
        """None: a factory that stands alone has no users."""
        return None

    def known(self) -> Known | None:
        """What is in force by the directory's own record.

        Raises:
            AuthorityError: a file is not what it should be.
        """
        if not self._pki.root_certificate.exists():
            return None
        root = read_certificate(self._pki.root_certificate)
        reasons = read_revocations(self._pki.revocations, root).reasons
        there = self._pki.tls_certificate.exists()
        return Known(
            root,
            read_certificate(self._pki.tls_certificate) if there else None,
            recorded_device_cas(self._pki, root),
            frozenset(serial for serial, reason in reasons.items() if reason == DISABLED),
        )

    def request(self, *, first_time: bool = False, tls: bool = False, online_ca: bool = False) -> Requests:  # noqa: ARG002 - the directory's own files say it
        """Make keys, in memory, and requests for them; for the gateway only when its hosts are known."""
        hosts = self._hosts or checked_hosts(*self._present_hosts())
        return Requests(
            self._request(self._pki.tls_key, hosts[0], hosts) if tls and hosts else None,
            self._request(self._pki.online_key, _ONLINE_NAME, ()) if online_ca else None,
        )

    def keep_keys(self) -> None:
        """Write the keys of the last request to `gateway`; those before become backups.

        Raises:
            OSError: they cannot be written.
        """
        if not self._keys:
            return
        if not self._pki.gateway.is_dir():
            make_directory(self._pki.gateway)
            sync_directory(self._pki.path)
        for path, key in self._keys.items():
            if path.exists() and not self._is_in_force(path):
                # Of a command that was stopped before its certificate came: the backup is the key in force.
                replace_file(path, [key_pem(key)], FILE_MODE, scratch=path.parent)
            else:
                replace_keeping_old(path, key_pem(key))
        self._keys.clear()

    def _is_in_force(self, path: Path) -> bool:
        """Whether the certificate for a key file is there and is that key's."""
        tls = path == self._pki.tls_key
        certificate = self._pki.tls_certificate if tls else self._pki.online_certificate
        if not certificate.exists():
            return False
        key, _ = read_key(path, None)
        try:
            check_pair(path.name, key, certificate.name, p256_key(certificate.name, read_certificate(certificate)))
        except AuthorityError:
            return False
        return True

    def change(self, change: Change) -> None:
        """Nothing: the directory's files are what is in force."""

    def _present_hosts(self) -> tuple[str | None, str | None]:
        """The gateway's and the ostree server's, by the certificate that there is."""
        known = self._pki.tls_certificate
        names = find_extension(read_certificate(known), x509.SubjectAlternativeName) if known.exists() else None
        gateway, ostree, *_ = [*([] if names is None else names.get_values_for_type(x509.DNSName)), None, None]
        return gateway, ostree

    def _request(self, path: Path, name: str, hosts: tuple[str, ...]) -> x509.CertificateSigningRequest:
        key = self._keys[path] = ec.generate_private_key(ec.SECP256R1())
        subject = profiles.factory_name(name, self._factory)
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = x509.CertificateSigningRequestBuilder(subject)
        if hosts:
            builder = builder.add_extension(names, critical=False)
        return builder.sign(key, hashes.SHA256())


def checked_hosts(gateway: str | None, ostree: str | None) -> tuple[str, ...]:
    """The DNS names of a gateway's certificate: the gateway's and then, if there is another, the ostree server's.

    Raises:
        AuthorityError: one is none, or there is no gateway for the ostree server.
    """
    if gateway is None:
        if ostree is not None:
            raise AuthorityError(
                "an ostree host goes into the gateway's certificate, and no gateway host was given",
                hint="give --gateway-host too",
            )
        return ()
    if len(gateway) > LONGEST_TEXT:
        raise AuthorityError(
            f"a gateway's host, its certificate's common name, must have at most {LONGEST_TEXT} characters; "
            f"it has {len(gateway)}: {gateway!r}"
        )
    hosts = (gateway,) if ostree is None else (gateway, ostree)
    for what, host in zip(("a gateway's host", "an ostree host"), hosts, strict=False):
        if fault := host_fault(host):
            raise AuthorityError(f"{what} {fault}: {host!r}")
    return hosts
