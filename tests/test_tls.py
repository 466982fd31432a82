"""A real TLS handshake of extracted bundles: the gateway trusts the local-ca alone, the device the root alone."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from judges import FORMATS, csv_bytes, device_uuids, issue, run
from pki import CA_FALSE, CLIENTS, EXPIRED, NOT_YET, SERVERS, VALID, key_pem, make_certificate, make_pki, p256

if TYPE_CHECKING:
    from datetime import datetime

UUIDS = device_uuids(4)
HOST = "gw.example.com"

pytestmark = pytest.mark.usefixtures("work")


def gateway_context(pki: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "tls-crt", pki / "gateway" / "tls.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(pki / "local-ca.pem")
    return context


def device_context(bundle: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(bundle / "root.crt"))
    context.load_cert_chain(bundle / "client.pem", bundle / "pkey.pem")
    return context


def handshake(pki: Path, bundle: Path, *, host: str = HOST) -> str:
    """The name under which the gateway knows the device, after an exchange over TCP.

    Raises:
        SSLCertVerificationError: one side refused the other's certificate.
    """
    gateway, device = gateway_context(pki), device_context(bundle)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        listening.settimeout(10)

        def serve() -> str:
            with listening.accept()[0] as plain:
                plain.settimeout(10)
                with gateway.wrap_socket(plain, server_side=True) as connection:
                    connection.sendall(connection.recv(5))
                    der = connection.getpeercert(binary_form=True)
                    assert der is not None
                    names = x509.load_der_x509_certificate(der).subject
                    return str(names.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

        served = pool.submit(serve)
        refusals: list[BaseException] = []
        try:
            with socket.create_connection(listening.getsockname(), timeout=10) as plain:
                with device.wrap_socket(plain, server_hostname=host) as connection:
                    connection.sendall(b"hello")
                    assert connection.recv(5) == b"hello"
        except (OSError, AssertionError) as error:
            refusals.append(error)
        if (refusal := served.exception(timeout=20)) is not None:
            refusals.append(refusal)
    # The other side sees no more than an alert or a closed connection.
    for seen in refusals:
        if isinstance(seen, ssl.SSLCertVerificationError):
            raise seen
    assert refusals == []
    return served.result()


def refused(pki: Path, bundle: Path, *, host: str = HOST) -> str:
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(pki, bundle, host=host)
    return str(caught.value.verify_message)


def bundle_folder(folder: Path, leaf: x509.Certificate, key: ec.EllipticCurvePrivateKey, pki: Path) -> Path:
    folder.mkdir()
    (folder / "client.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (folder / "pkey.pem").write_bytes(key_pem(key))
    (folder / "root.crt").write_bytes((pki / "factory_ca.pem").read_bytes())
    return folder


def handmade(
    folder: Path, pki: Path, *, window: tuple[datetime, datetime] = VALID, purpose: x509.ObjectIdentifier = CLIENTS[0]
) -> Path:
    """A bundle whose certificate the PKI's own local-ca signed, as it stands here."""
    ca = x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())
    signer = load_pem_private_key((pki / "local-ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, UUIDS[0])])
    key = p256()
    leaf = make_certificate(
        subject,
        key,
        ca.subject,
        signer,
        window=window,
        constraints=CA_FALSE,
        usage=("digital_signature",),
        purposes=(purpose,),
    )
    return bundle_folder(folder, leaf, key, pki)


@pytest.mark.parametrize("stored_as", FORMATS)
def test_every_extracted_bundle_is_let_in_by_a_gateway_that_trusts_the_local_ca_alone(stored_as: str) -> None:
    assert issue(csv_bytes(UUIDS), "--format", stored_as).code == 0
    assert run("extract", "issued", "--all", "--to", "devices").code == 0
    for device in UUIDS:
        assert handshake(Path("pki"), Path("devices", device)) == device


def test_a_handmade_twin_is_let_in_so_that_the_refusals_mean_something(tmp_path: Path) -> None:
    assert handshake(Path("pki"), handmade(tmp_path / "twin", Path("pki"))) == UUIDS[0]


def test_a_device_of_another_ca_is_refused(tmp_path: Path) -> None:
    make_pki(tmp_path / "other")
    assert issue(csv_bytes(UUIDS), "--pki", "other").code == 0
    bundle = Path("issued/bundles", UUIDS[0])
    assert handshake(Path("other"), bundle) == UUIDS[0]
    (bundle / "root.crt").write_bytes(Path("pki/factory_ca.pem").read_bytes())
    assert refused(Path("pki"), bundle) == "unable to get local issuer certificate"


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    bundle = handmade(tmp_path / "old", Path("pki"), window=EXPIRED)
    assert refused(Path("pki"), bundle) == "certificate has expired"


def test_a_certificate_of_the_future_is_refused(tmp_path: Path) -> None:
    bundle = handmade(tmp_path / "new", Path("pki"), window=NOT_YET)
    assert refused(Path("pki"), bundle) == "certificate is not yet valid"


def test_a_certificate_for_servers_is_refused(tmp_path: Path) -> None:
    bundle = handmade(tmp_path / "server", Path("pki"), purpose=SERVERS[0])
    assert refused(Path("pki"), bundle) in {"unsuitable certificate purpose", "unsupported certificate purpose"}


def test_a_key_of_another_device_does_not_open_the_door() -> None:
    assert issue(csv_bytes(UUIDS)).code == 0
    first, second = (Path("issued/bundles", device) for device in UUIDS[:2])
    (first / "pkey.pem").write_bytes((second / "pkey.pem").read_bytes())
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        device_context(first)


def test_the_device_refuses_a_gateway_of_another_name_or_factory(tmp_path: Path) -> None:
    assert issue(csv_bytes(UUIDS)).code == 0
    bundle = Path("issued/bundles", UUIDS[0])
    assert refused(Path("pki"), bundle, host="other.example.com").startswith("Hostname mismatch")
    assert "certificate" in refused(make_pki(tmp_path / "other"), bundle)
