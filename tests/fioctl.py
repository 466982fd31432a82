"""What fioctl does with the factory's API: requests signed by a root of its own, and sent back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from pki import CA_TRUE, KEY_CERT_SIGN, ROOT_CA_TRUE, SERVERS, VALID, key_usage, make_certificate, name, p256

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric import ec
    from gateways import Answer, Serving

FIRST = {"first-time-init": True, "ca-csr": True, "est-tls-csr": False, "tls-csr": True}
NO_META = {"change-meta": {"created-by": "", "created-at": "", "updated-by": "", "updated-at": ""}}
MINUTES = timedelta(minutes=1)


def pem(*certificates: x509.Certificate) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


@dataclass
class DeviceCa:
    """A device CA with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass
class Owner:
    """A factory's owner, with the root's key, and a server that has the API.

    Attributes:
        server: where the API is.
        factory: whose root it is.
        root: its certificate.
        local: the local-ca, once there is one.
    """

    server: Serving
    factory: str = "acme"
    key: ec.EllipticCurvePrivateKey = field(default_factory=p256)
    root: x509.Certificate = field(init=False)
    local: DeviceCa = field(init=False)

    def __post_init__(self) -> None:
        subject = name("Factory-CA", [self.factory])
        usage = (*KEY_CERT_SIGN, "crl_sign")
        self.root = make_certificate(
            subject, self.key, subject, self.key, constraints=ROOT_CA_TRUE, usage=usage, key_identifier=b"\x01" * 20
        )
        self.local = self.device_ca("fio-rehearsal")

    @property
    def certs(self) -> str:
        return f"/ota/factories/{self.factory}/certs/"

    def get(self) -> Any:
        """What a GET answers."""
        answer = self.server.ask("GET", self.certs)
        assert answer.status == 200, answer.text
        return answer.json

    def post(self, **fields: object) -> Any:
        """The requests that are asked for, `tls_csr=True` and so on."""
        body = dict.fromkeys(FIRST, False) | {key.replace("_", "-"): value for key, value in fields.items()}
        answer = self.server.ask("POST", self.certs, body)
        assert answer.status == 201, answer.text
        return answer.json

    def patch(self, body: Mapping[str, object]) -> Answer:
        """A PATCH as fioctl sends it."""
        return self.server.ask("PATCH", self.certs, {**body, **NO_META})

    def change(self, body: Mapping[str, object]) -> None:
        """A PATCH that is accepted."""
        answer = self.patch(body)
        assert answer.status == 200, answer.text

    def device_ca(self, common_name: str, *, serial: int | None = None, identifier: bytes | None = None) -> DeviceCa:
        """A device CA that this root has signed; its key identifier is its name unless another is given."""
        key = p256()
        # By the constructor, whose values are not held to 159 bits as those of the builder's methods are.
        builder = x509.CertificateBuilder(
            self.root.subject,
            name(common_name, [self.factory]),
            key.public_key(),
            serial or x509.random_serial_number(),
            *VALID,
        )
        builder = builder.add_extension(CA_TRUE, critical=True).add_extension(key_usage(*KEY_CERT_SIGN), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier(identifier or common_name.encode()[:20]), critical=False
        )
        return DeviceCa(builder.sign(self.key, hashes.SHA256()), key)

    def signed(self, text: str, *, hosts: list[str] | None = None) -> x509.Certificate:
        """What a request asks for: a device CA, or a server's certificate (with other hosts, if they are given)."""
        csr = x509.load_pem_x509_csr(text.encode())
        assert csr.is_signature_valid
        kinds = {type(extension.value): extension.value for extension in csr.extensions}
        builder = x509.CertificateBuilder(
            self.root.subject,
            csr.subject,
            csr.public_key(),
            x509.random_serial_number(),
            self.root.not_valid_before_utc,
            self.root.not_valid_after_utc,
        )
        if x509.BasicConstraints in kinds:
            builder = builder.add_extension(CA_TRUE, critical=True).add_extension(
                key_usage(*KEY_CERT_SIGN), critical=True
            )
        else:
            names = kinds[x509.SubjectAlternativeName]
            if hosts is not None:
                names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(SERVERS), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def create(self, *, online: bool = True, local: bool = True) -> None:
        """`fioctl keys ca create`."""
        csrs = self.post(first_time_init=True, tls_csr=True, ca_csr=online)
        cas = [pem(self.signed(csrs["ca-csr"]))] if online else []
        cas += [pem(self.local.certificate)] if local else []
        self.change(
            {"root-crt": pem(self.root), "tls-crt": pem(self.signed(csrs["tls-csr"])), "ca-crt": "\n".join(cas)}
        )

    def rotate_tls(self) -> None:
        """`fioctl keys ca rotate-tls`."""
        self.change({"tls-crt": pem(self.signed(self.post(tls_csr=True)["tls-csr"]))})

    def crl(
        self,
        reasons: dict[int, x509.ReasonFlags],
        *,
        key: ec.EllipticCurvePrivateKey | None = None,
        until: datetime | None = None,
    ) -> str:
        """A list as `fioctl keys ca disable-device-ca` and `revoke-device-ca` make it."""
        now = datetime.now(UTC).replace(microsecond=0)
        until = until or now + 15 * MINUTES
        builder = x509.CertificateRevocationListBuilder(self.root.subject, now - 60 * MINUTES, until)
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        for serial, reason in reasons.items():
            extension = x509.Extension(x509.CRLReason.oid, critical=False, value=x509.CRLReason(reason))
            entry = x509.RevokedCertificateBuilder(serial, now.replace(tzinfo=None), [extension]).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(key or self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def order(self, reason: x509.ReasonFlags, *cas: DeviceCa) -> None:
        """Disable, enable or revoke device CAs."""
        self.change({"ca-revoke-crl": self.crl({ca.certificate.serial_number: reason for ca in cas})})
