"""The backend of a factory that stands alone: what the vendor would hold lies in the directory's `gateway` folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from batch_issuer import profiles
from batch_issuer.authority.checks import read_certificate
from batch_issuer.authority.device_cas import recorded_device_cas
from batch_issuer.authority.layout import key_pem, replace_keeping_old
from batch_issuer.authority.names import LONGEST_TEXT, host_fault
from batch_issuer.authority.revocation import DISABLED, read_revocations
from batch_issuer.ceremony.backend import Known, Requests
from batch_issuer.errors import AuthorityError
from batch_issuer.files import make_directory, sync_directory

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
        hosts = self._hosts or self._present_hosts()
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
            replace_keeping_old(path, key_pem(key))
        self._keys.clear()

    def change(self, change: Change) -> None:
        """Nothing: the directory's files are what is in force."""

    def _present_hosts(self) -> tuple[str, ...]:
        known = self._pki.tls_certificate
        if not known.exists():
            return ()
        for extension in read_certificate(known).extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                return tuple(extension.value.get_values_for_type(x509.DNSName))
        return ()

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
