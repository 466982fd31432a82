"""The signer of outputs: a certificate below the root that is for signatures alone, and is no CA's.

A device CA's key never signs an output: its keyUsage says keyCertSign and nothing else (RFC 5280 section 4.2.1.3), and
what looks like a request for a signature on a list should never be able to become one on a certificate.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

from batch_issuer.authority import checks
from batch_issuer.authority.layout import PkiDirectory
from batch_issuer.authority.root import read_root
from batch_issuer.authority.signers import SigningKey, check_pair, read_key
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from batch_issuer.authority.signers import Passphrase, SignerSource

__all__ = ["BatchSigner", "load_batch_signer"]

_OTHERS = 0o077
"""Mode bits of everybody but the owner."""

_DETACHED = (PKCS7Options.DetachedSignature, PKCS7Options.Binary, PKCS7Options.NoCapabilities)
"""The signed octets stand in a file of their own, as they are; no list of ciphers for answers by mail."""


@dataclass(frozen=True, slots=True)
class BatchSigner:
    """A signer that was checked, with its key.

    Attributes:
        name: what the directory calls it, such as `batch-signer`.
        certificate: its certificate.
        key: what signs. Not shown by repr.
        warnings: sentences about what is allowed and not right.
    """

    name: str
    certificate: x509.Certificate
    key: SignerSource = field(repr=False)
    warnings: tuple[str, ...] = ()

    def certificate_pem(self) -> str:
        """The certificate as text."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def sign(self, path: Path) -> bytes:
        """A detached CMS signature over a file's octets, with the certificate and the time in it: DER.

        `SignedData` of RFC 5652 section 5: SHA-256, ecdsa-with-SHA256, the signed attributes content-type,
        signing-time and message-digest (section 11).

        Raises:
            OSError: the file cannot be read.
        """
        key = SigningKey(self.key, checks.p256_key(self.name, self.certificate))
        # Mapped and not read: the list of a million folders has 400 MB, which the builder takes as one piece.
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as octets,
        ):
            builder = PKCS7SignatureBuilder().set_data(octets)
            return builder.add_signer(self.certificate, key, hashes.SHA256()).sign(Encoding.DER, _DETACHED)


def load_batch_signer(pki: Path, name: str, *, now: datetime, passphrase: Passphrase | None = None) -> BatchSigner:
    """The signer `name` of the directory `pki`, fit to sign outputs.

    Args:
        pki: the PKI directory.
        name: the signer's files without their suffix.
        now: UTC.
        passphrase: asked with the key's file name, if the key is encrypted.

    Raises:
        AuthorityError: it is not there or not fit; the text says which rule it breaks.
    """
    directory = PkiDirectory(pki)
    path, key_path = directory.signer_certificate(name), directory.signer_key(name)
    if missing := ", ".join(file.name for file in (path, key_path) if not file.exists()):
        raise AuthorityError(
            f"the PKI directory {pki} lacks {missing}",
            hint=f"`batch-issuer ca add-signer {pki} --name {name}` makes a signer",
        )
    root_path = directory.root_certificate
    root = read_root(root_path, now)
    certificate = checks.read_certificate(path)
    public_key = checks.p256_key(path.name, certificate)
    _check_use(path.name, certificate)
    checks.check_issued_by(path.name, certificate, root_path.name, root)
    checks.check_valid(path.name, certificate, now)
    checks.factory_of(path.name, certificate, root_path.name, root)
    key, mode = read_key(key_path, passphrase)
    check_pair(key_path.name, key, path.name, public_key)
    wrong = f"{key_path.name} must be its owner's alone, mode 0400; it has mode {mode:04o}"
    return BatchSigner(name, certificate, key, (wrong,) if mode & _OTHERS else ())


def _check_use(file: str, certificate: x509.Certificate) -> None:
    """It is for signatures on data, and for nothing else.

    Raises:
        AuthorityError: it is a CA's, a server's or a client's, or may not sign.
    """
    hint = "`batch-issuer ca add-signer` makes a signer that is for nothing else"
    constraints = checks.find_extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise AuthorityError(
            f"{file} must be a signer's certificate; it is a CA's, whose key signs no output", hint=hint
        )
    usage = checks.find_extension(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature:
        found = "it has no keyUsage" if usage is None else "its keyUsage lacks digitalSignature"
        raise AuthorityError(f"{file} must be allowed to sign data; {found}", hint=hint)
    purposes = checks.find_extension(certificate, x509.ExtendedKeyUsage)
    if purposes is not None:
        raise AuthorityError(
            f"{file} must be for signing outputs alone; it is for other purposes (extendedKeyUsage)", hint=hint
        )
