"""The PKI directory: what its files are called, who may read them, and how they are written once and read.

Names and modes are fioctl's, whose readers are strict: a key or certificate file is exactly one PEM block with no
octet after its last line, and a key is SEC1 (`EC PRIVATE KEY`, RFC 5915). What others wrote is read liberally.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from batch_issuer.errors import AuthorityError
from batch_issuer.files import replace_file, write_new

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

__all__ = [
    "FILE_MODE",
    "LOCAL_CA_NAME",
    "PkiDirectory",
    "backup_of",
    "key_pem",
    "pem_labels",
    "read_file",
    "replace_keeping_old",
    "write_certificate",
    "write_key",
]

FILE_MODE = 0o400
"""Every file of the directory, keys and certificates alike, as fioctl has it: made once, never changed."""

LOCAL_CA_NAME = "local-ca"
"""The device CA that signs unless another is named."""

_ROOT_NAME = "factory_ca"
_PEM_LABEL = re.compile(r"^-----BEGIN ([A-Z0-9 ]+)-----", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PkiDirectory:
    """The paths of a factory's PKI.

    Attributes:
        path: DIR.
    """

    path: Path

    @property
    def root_key(self) -> Path:
        """The root's private key; not there when a token holds it."""
        return self.path / f"{_ROOT_NAME}.key"

    @property
    def root_certificate(self) -> Path:
        """The root's certificate. Written last, so its presence says that the PKI is whole."""
        return self.path / f"{_ROOT_NAME}.pem"

    @property
    def tls_certificate(self) -> Path:
        """The device gateway's server certificate; its DNS names are the gateway's host and then the ostree host."""
        return self.path / "tls-crt"

    @property
    def online_certificate(self) -> Path:
        """The certificate of the device CA whose key the gateway's owner holds."""
        return self.path / "online-crt"

    @property
    def device_cas(self) -> Path:
        """The device CA bundle, `ca-crt` of the factory's API: the PEM certificates that the gateway trusts."""
        return self.path / "ca-crt"

    @property
    def pending(self) -> Path:
        """A device CA that is to be added to the bundle, while that is under way."""
        return self.path / "ca-crt.pending"

    @property
    def revocations(self) -> Path:
        """The root's list of device CAs that are disabled or revoked (PEM, RFC 5280 section 5)."""
        return self.path / "ca-crl"

    @property
    def gateway(self) -> Path:
        """Keys that belong to the server and not to the factory: fioctl's directories have no such folder."""
        return self.path / "gateway"

    @property
    def online_key(self) -> Path:
        """The private key of `online_certificate`."""
        return self.gateway / "online-ca.key"

    @property
    def tls_key(self) -> Path:
        """The private key of `tls_certificate`."""
        return self.gateway / "tls.key"

    def locate(self, name: str) -> Path:
        """The certificate file `name`, with or without its suffix `.pem`, in the directory.

        Raises:
            AuthorityError: there is none, or it is no file name.
        """
        if not name or "/" in name or "\0" in name:
            raise AuthorityError(f"a certificate file must be a plain name in {self.path}; it is {name!r}")
        for path in (self.path / name, self.path / f"{name}.pem"):
            if path.is_file():
                return path
        raise AuthorityError(f"the PKI directory {self.path} has no certificate file {name}")

    def ca_key(self, name: str) -> Path:
        """The private key of the device CA `name`.

        Raises:
            AuthorityError: `name` is not a device CA's.
        """
        return self.path / f"{_device_ca_name(name)}.key"

    def ca_certificate(self, name: str) -> Path:
        """The certificate of the device CA `name`.

        Raises:
            AuthorityError: `name` is not a device CA's.
        """
        return self.path / f"{_device_ca_name(name)}.pem"

    def signer_key(self, name: str) -> Path:
        """The private key of the signer of outputs `name`.

        Raises:
            AuthorityError: `name` is not a signer's.
        """
        return self.path / f"{_signer_name(name)}.key"

    def signer_certificate(self, name: str) -> Path:
        """The certificate of the signer of outputs `name`.

        Raises:
            AuthorityError: `name` is not a signer's.
        """
        return self.path / f"{_signer_name(name)}.pem"


def _signer_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name or name == _ROOT_NAME:
        raise AuthorityError(
            f"a signer's name must be a plain file name without a suffix, and not the root's; it is {name!r}",
            hint="NAME stands for NAME.pem and NAME.key in the PKI directory, as in --sign-with batch-signer",
        )
    return name


def _device_ca_name(name: str) -> str:
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise AuthorityError(
            f"a CA's name must be a plain file name without a suffix; it is {name!r}",
            hint=f"NAME stands for NAME.pem and NAME.key in the PKI directory, as in --ca-name {LOCAL_CA_NAME}",
        )
    if name == _ROOT_NAME:
        raise AuthorityError(
            "devices must be signed by a device CA; factory_ca is the root",
            hint="gateways trust device CAs, so the root's key can stay offline",
        )
    return name


def pem_labels(text: bytes) -> list[str]:
    """The labels of the PEM blocks in `text`, in order (RFC 7468 section 2)."""
    return _PEM_LABEL.findall(text.decode("ascii", "replace"))


def read_file(path: Path) -> tuple[bytes, int]:
    """The content and the mode of a file of the directory, both of the very file that was opened.

    Raises:
        AuthorityError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(), os.fstat(file.fileno()).st_mode & 0o7777
    except OSError as error:
        raise AuthorityError(f"{path} cannot be read: {error.strerror}") from None


def write_certificate(path: Path, certificate: x509.Certificate) -> None:
    """Create `path`, which must not exist, as one durable PEM block of `certificate`.

    Raises:
        OSError: as `files.write_new`.
    """
    write_new(path, [certificate.public_bytes(Encoding.PEM)], FILE_MODE)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> None:
    """Create `path`, which must not exist, as one durable PEM block of `key`, as `key_pem` gives it.

    Raises:
        OSError: as `files.write_new`.
    """
    write_new(path, [key_pem(key, passphrase)], FILE_MODE)


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """One PEM block of `key`: SEC1 in the clear, or PKCS#8 encrypted under a passphrase.

    PBES2 with AES-256 (RFC 8018), because the SEC1 form's own encryption derives its key by one round of MD5.
    """
    if passphrase is None:
        return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))


def backup_of(path: Path) -> Path:
    """Where the version of `path` before its present one is kept, as fioctl has it."""
    return path.with_name(f"{path.name}.bak")


def replace_keeping_old(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whose present content, if any, becomes its backup; both names are whole at any time.

    Raises:
        OSError: as `files.replace_file`.
    """
    if path.exists():
        replace_file(backup_of(path), [path.read_bytes()], FILE_MODE, scratch=path.parent)
    replace_file(path, [content], FILE_MODE, scratch=path.parent)
