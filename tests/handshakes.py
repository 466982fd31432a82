"""Devices that speak to a device gateway, each with a real key and certificate, over real TLS."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import tempfile
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from gateways import PATIENCE
from pki import CLIENTS, key_pem, make_certificate, name, p256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec
    from gateways import Serving


@dataclass(frozen=True)
class Ca:
    """A CA that signs for devices."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ca_of(pki: Path, ca_name: str = "local-ca") -> Ca:
    """A device CA of a directory."""
    key = load_pem_private_key((pki / f"{ca_name}.key").read_bytes(), None)
    return Ca(x509.load_pem_x509_certificate((pki / f"{ca_name}.pem").read_bytes()), key)  # type: ignore[arg-type]


@dataclass
class Reply:
    """What the gateway answered."""

    status: int
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def both(self) -> tuple[int, str]:
        return self.status, self.text


@dataclass
class Device:
    """A device with a key and a certificate.

    Attributes:
        uuid: as its certificate has it.
        certificate: its certificate.
    """

    uuid: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def context(self, root: x509.Certificate) -> ssl.SSLContext:
        """What its handshakes go by: it trusts the root, and sends its leaf alone."""
        context = anybody(root)
        with tempfile.NamedTemporaryFile() as file:
            file.write(self.certificate.public_bytes(Encoding.PEM) + key_pem(self.key))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def ask(self, server: Serving, root: x509.Certificate, path: str = "/device", method: str = "GET") -> Reply:
        """One request on a connection of its own.

        Raises:
            OSError: TLS or the network refuses.
        """
        return ask(server, self.context(root), path, method)


def new_device(
    ca: Ca,
    common_name: str | None = None,
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    factory: str = "acme",
    category: str | None = None,
    **changes: Any,
) -> Device:
    """A device whose certificate `ca` has signed, right unless `changes` (of `make_certificate`) say otherwise."""
    common_name = common_name or str(uuid.uuid4())
    key = key or p256()
    attributes = list(name(common_name, [factory]))
    if category is not None:
        attributes.append(x509.NameAttribute(NameOID.BUSINESS_CATEGORY, category))
    # A user's local CAs all have one name; only the key identifier tells them apart.
    identifiers = [e.value for e in ca.certificate.extensions if isinstance(e.value, x509.SubjectKeyIdentifier)]
    extensions = [(x509.AuthorityKeyIdentifier(value.digest, None, None), False) for value in identifiers]
    values: dict[str, Any] = {"constraints": None, "usage": ("digital_signature",), "purposes": CLIENTS}
    values |= {"extensions": extensions, **changes}
    leaf = make_certificate(x509.Name(attributes), key, ca.certificate.subject, ca.key, **values)
    return Device(common_name, leaf, key)


def anybody(root: x509.Certificate) -> ssl.SSLContext:
    """Who trusts the root and has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # names of the tests' gateways do not resolve
    context.load_verify_locations(cadata=root.public_bytes(Encoding.DER))
    return context


def ask(server: Serving, context: ssl.SSLContext, path: str = "/device", method: str = "GET") -> Reply:
    """One request on a connection of its own.

    Raises:
        OSError: TLS or the network refuses.
    """
    host, port = server.address
    with closing(http.client.HTTPSConnection(host, port, context=context, timeout=PATIENCE)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return Reply(answer.status, answer.read().decode())


@contextmanager
def connected(server: Serving, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A connection that stays, for requests by hand."""
    with socket.create_connection(server.address, timeout=PATIENCE) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="gateway") as secure:
            yield secure


def request(secure: ssl.SSLSocket, path: str = "/device") -> tuple[int, bytes]:
    """A request on a connection that stays; what came of the answer, status 0 for a connection that ended."""
    try:
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        text = b""
        while b"\r\n\r\n" not in text:
            piece = secure.recv(65536)
            if not piece:
                return 0, text
            text += piece
        head, _, body = text.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += secure.recv(65536)
        return int(head.split()[1]), body
    except (ConnectionError, ssl.SSLError):
        return 0, b""
