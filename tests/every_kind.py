"""A PKI directory and a run with a certificate of every kind that there is, all by the program's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from judges import run
from pki import p256

if TYPE_CHECKING:
    from pathlib import Path

UUID = "5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b"
OTHER = "6b2d7c0f-9a4e-4a1b-8b66-1d2e3f4a5b6c"
"""A device that is not of production, and one that is."""

CA_TRUE = x509.BasicConstraints(ca=True, path_length=None)


def make_every_kind(folder: Path) -> Path:
    """Below `folder`, which is returned: `pki`, and the run `out` of the two devices as folders."""
    pki = folder / "pki"
    hosts = ("--gateway-host", "gw.acme.example", "--ostree-host", "os.acme.example")
    assert run("ca", "create", pki, "--factory", "acme", "--user-id", "7f3a", *hosts).code == 0
    assert run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "site2.pem").code == 0
    assert run("ca", "add-signer", pki).code == 0
    el2go = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nxp"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "acme"),
            x509.NameAttribute(NameOID.COMMON_NAME, "el2go"),
        ]
    )
    est = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "est.acme.example"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "acme"),
        ]
    )
    server = x509.SubjectAlternativeName([x509.DNSName("est.acme.example")])
    for file, name, extension in (("el2go", el2go, CA_TRUE), ("est", est, server)):
        csr = x509.CertificateSigningRequestBuilder(name).add_extension(extension, critical=False)
        (folder / f"{file}.csr").write_bytes(csr.sign(p256(), hashes.SHA256()).public_bytes(Encoding.PEM))
        signed = run("ca", "sign", folder / f"{file}.csr", "--pki-dir", pki)
        assert signed.code == 0
        (pki / f"{file}.pem").write_text(signed.out)
    (folder / "devices.csv").write_text(f"device_uuid,production\n{UUID},0\n{OTHER},1\n")
    issued = run("issue", "--manifest", folder / "devices.csv", "--pki", pki, "--out", folder / "out", "--days", "3700")
    assert issued.code == 0
    return folder
