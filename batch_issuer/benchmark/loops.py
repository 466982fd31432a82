"""What is measured in memory and on the bare file system: the floor, the core, and the folders of `dir`.

The loops are as fast as Python writes them, with local names only: a floor that is slow would flatter the program.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from batch_issuer.benchmark.workload import device_uuids
from batch_issuer.bundles.contents import FILE_MODES
from batch_issuer.bundles.format import bundle_format
from batch_issuer.bundles.p12 import KDF_ROUNDS, p12_encryption
from batch_issuer.columns import fixed_text_column, row_numbers
from batch_issuer.devices import UUID_LENGTH
from batch_issuer.files import DIRECTORY_MODE
from batch_issuer.minting.keys import key_engine
from batch_issuer.minting.mint import Mint
from batch_issuer.minting.reference import DeviceIssuance
from batch_issuer.output.folder import part_name
from batch_issuer.output.rows import commit_table, encode_commit, new_attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.authority.issuer import Issuer

__all__ = ["CoreLoop", "FloorLoop", "FolderLoop", "P12Loop"]

_MESSAGE = bytes(420)
"""As long as the to-be-signed certificate of a device."""

_WARM_UP = 100
"""Devices before the clock starts."""


@dataclass(frozen=True, slots=True)
class FloorLoop:
    """The floor: a P-256 key and one ECDSA signature with SHA-256 per device, by `cryptography`."""

    def prepare(self, place: int, count: int) -> Callable[[], None]:  # noqa: ARG002 - all places do the same
        """The work for `count` devices."""
        generate, curve, algorithm = ec.generate_private_key, ec.SECP256R1(), ec.ECDSA(hashes.SHA256())
        sign, message = generate(curve).sign, _MESSAGE

        def work(devices: int = count) -> None:
            for _ in range(devices):
                generate(curve)
                sign(message, algorithm)

        work(_WARM_UP)
        return work


@dataclass(frozen=True, slots=True)
class CoreLoop:
    """The core: keys and certificates, and the parts' rows of the output manifest as octets; no file is touched.

    Attributes:
        issuer: the CA.
        part_size: devices per part.
    """

    issuer: Issuer
    part_size: int

    def prepare(self, place: int, count: int) -> Callable[[], None]:
        """The work for `count` devices of its own."""
        devices = device_uuids(count, seed=place)
        parts = [devices[start : start + self.part_size] for start in range(0, count, self.part_size)]
        tables = [(row_numbers(1, len(part)), fixed_text_column(b"".join(part), UUID_LENGTH)) for part in parts]
        mint, window, bundles = _mint(self.issuer), self.issuer.window, bundle_format("parquet")
        moments = (window.not_before, window.not_after)

        def make(index: int, part: list[bytes]) -> None:
            minted = mint.part(part, production=False)
            rows, uuids = tables[index]
            locations = bundles.locations(part_name(index), part)
            encode_commit(
                commit_table(rows, uuids, minted, moments, locations, certificates=None, key_origins=None, carried={}),
                [b""] * len(part),
                new_attempt(),
            )

        def work() -> None:
            for index, part in enumerate(parts):
                make(index, part)

        mint.part(devices[:_WARM_UP], production=False)
        make(0, parts[0])
        return work


def _mint(issuer: Issuer) -> Mint:
    ca = x509.load_der_x509_certificate(issuer.certificate)
    public_key = ca.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)  # noqa: S101 - loading the issuer checked it
    issuance = DeviceIssuance(ca.subject, issuer.subject_key_identifier, issuer.factory, issuer.window)
    return Mint(issuance, key_engine("openssl"), issuer.key.open(), public_key)


@dataclass(frozen=True, slots=True)
class P12Loop:
    """The floor of `p12`: a key, a signature and one PKCS#12 file per device by `cryptography`, in memory.

    Attributes:
        issuer: the CA.
        rounds: of PBKDF2.
    """

    issuer: Issuer
    rounds: int = KDF_ROUNDS

    def prepare(self, place: int, count: int) -> Callable[[], None]:
        """The work for `count` devices; all files are one device's."""
        generate, curve, algorithm = ec.generate_private_key, ec.SECP256R1(), ec.ECDSA(hashes.SHA256())
        sign, message = generate(curve).sign, _MESSAGE
        minted = _mint(self.issuer).part(device_uuids(1, seed=place), production=False)
        assert minted.private_keys[0] is not None  # noqa: S101 - no CSR was given
        key, leaf = load_der_private_key(minted.private_keys[0], None), minted.certificates[0]
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101 - it was made a moment ago
        certificate = x509.load_der_x509_certificate(leaf)
        chain = [x509.load_der_x509_certificate(one) for one in (self.issuer.certificate, self.issuer.root)]
        encryption = p12_encryption(b"only a benchmark", rounds=self.rounds)
        encode = serialize_key_and_certificates

        def work(devices: int = count) -> None:
            for _ in range(devices):
                generate(curve)
                sign(message, algorithm)
                encode(b"bench", key, certificate, chain, encryption)

        work(1)
        return work


@dataclass(frozen=True, slots=True)
class FolderLoop:
    """The file system's own floor for `dir`: its keys, signatures, folders, files and octets, and nothing else.

    No PEM text is made, nothing is hashed, made durable, renamed or written to a manifest. What it wrote is left.

    Attributes:
        folder: the one folder that all processes write to, as a run's bundles are in one.
        sizes: octets of each file of a device, by its name.
    """

    folder: Path
    sizes: dict[str, int]

    def prepare(self, place: int, count: int) -> Callable[[], None]:
        """The work for `count` devices of its own."""
        target = self.folder
        target.mkdir(parents=True, exist_ok=True)
        names = [device_uuid.decode() for device_uuid in device_uuids(count, seed=place)]
        files = [(name, FILE_MODES[name], bytes(size)) for name, size in self.sizes.items()]
        generate, curve, algorithm = ec.generate_private_key, ec.SECP256R1(), ec.ECDSA(hashes.SHA256())
        sign, message = generate(curve).sign, _MESSAGE
        create = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        mkdir, open_file, write, close = os.mkdir, os.open, os.write, os.close

        def work() -> None:
            descriptor = open_file(target, os.O_RDONLY | os.O_DIRECTORY)
            for name in names:
                generate(curve)
                sign(message, algorithm)
                mkdir(name, DIRECTORY_MODE, dir_fd=descriptor)
                for file_name, mode, content in files:
                    file = open_file(f"{name}/{file_name}", create, mode, dir_fd=descriptor)
                    write(file, content)
                    close(file)
            close(descriptor)

        FloorLoop().prepare(place, 1)  # warms up keys and signatures
        return work
