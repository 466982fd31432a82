"""The exact-profile checker refuses every mutant, by name, and accepts what is right."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from mutants import (
    DEVICE_UUID,
    FACTORY,
    MATRIX,
    MORE,
    NOT_AFTER,
    NOT_BEFORE,
    Authority,
    Fields,
    good_certificate,
    make_authority,
    mutant,
    signature_mutants,
)

from batch_issuer.bundles.contents import certificate_pem
from batch_issuer.devices import CertificateDer
from batch_issuer.verification.certificate import CertificateChecker
from batch_issuer.verification.der import DerError, content, element, split
from batch_issuer.verification.pem import PemError, unwrap

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE_MUTANTS = ("signature bit flip", "subject edited", "wrong signer")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def good(authority: Authority) -> bytes:
    return good_certificate(authority)


@pytest.fixture(scope="module")
def checker(authority: Authority) -> CertificateChecker:
    return checker_of(authority)


def checker_of(authority: Authority) -> CertificateChecker:
    return CertificateChecker(authority.ca_der, factory=FACTORY, not_before=NOT_BEFORE, not_after=NOT_AFTER)


def codes(checker: CertificateChecker, der: bytes, *, production: bool | None = False) -> set[str]:
    return {fault.code for fault in checker.check(der, DEVICE_UUID, production=production).faults}


def openssl_accepts(folder: Path, authority: Authority, leaf: bytes) -> bool:
    (folder / "root.pem").write_bytes(authority.root.public_bytes(Encoding.PEM))
    (folder / "ca.pem").write_bytes(authority.ca.public_bytes(Encoding.PEM))
    (folder / "leaf.pem").write_bytes(certificate_pem(CertificateDer(leaf)))
    chain = ["-CAfile", "root.pem", "-untrusted", "ca.pem"]
    gateway = ["-partial_chain", "-trusted", "ca.pem"]
    at = ["-attime", str(int(NOT_BEFORE.timestamp()) + 60)]
    return all(
        subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", *at, *trust, "leaf.pem"],
            cwd=folder,
            capture_output=True,
            check=False,
        ).returncode
        == 0
        for trust in (chain, gateway)
    )


def test_the_matrix_has_its_28_mutants() -> None:
    assert len(MATRIX) + len(SIGNATURE_MUTANTS) == 28


@pytest.mark.parametrize("production", [False, True])
def test_the_good_certificate_is_accepted_here_and_by_openssl(
    authority: Authority, checker: CertificateChecker, tmp_path: Path, production: bool
) -> None:
    leaf = good_certificate(authority, production=production)
    assert checker.check(leaf, DEVICE_UUID, production=production).faults == []
    assert checker.check(leaf, DEVICE_UUID, production=None).faults == []
    assert codes(checker, leaf, production=not production) == {"certificate-subject"}
    assert openssl_accepts(tmp_path, authority, leaf)


def test_openssl_refuses_where_it_can(authority: Authority, good: bytes, tmp_path: Path) -> None:
    assert not openssl_accepts(tmp_path, authority, mutant(authority, good, MATRIX["EKU serverAuth only"][1]))


@pytest.mark.parametrize("name", MATRIX | MORE)
def test_a_signed_mutant_is_refused_for_its_own_fault(
    authority: Authority, checker: CertificateChecker, good: bytes, name: str
) -> None:
    code, change = (MATRIX | MORE)[name]
    found = codes(checker, mutant(authority, good, change))
    assert code in found
    assert "certificate-signature" not in found  # the CA did sign it: nothing but the profile refuses it


@pytest.mark.parametrize(
    "name", [*SIGNATURE_MUTANTS, "unused bits", "octets after the signature", "octets after the certificate", "cut off",
             "BER's indefinite length", "empty"],
)  # fmt: skip
def test_a_mutant_of_signature_or_encoding_is_refused(
    authority: Authority, checker: CertificateChecker, good: bytes, name: str
) -> None:
    code, leaf = signature_mutants(authority, good)[name]
    assert code in codes(checker, leaf)


def test_only_the_fault_itself_is_named(authority: Authority, checker: CertificateChecker, good: bytes) -> None:
    leaf = mutant(authority, good, MATRIX["NUL in OU"][1])
    [fault] = checker.check(leaf, DEVICE_UUID, production=False).faults
    assert fault.message == (
        f"the subject is CN='{DEVICE_UUID}', OU='ac\\x00me', expected CN='{DEVICE_UUID}', OU='acme'"
    )


def test_extensions_may_stand_in_any_order(authority: Authority, checker: CertificateChecker, good: bytes) -> None:
    fields = Fields.of(good)
    backwards = Fields(**{**vars(fields), "extensions": fields.extensions[::-1]})
    assert codes(checker, backwards.signed(authority.ca_key)) == set()


def test_every_single_flipped_bit_is_refused(checker: CertificateChecker, good: bytes) -> None:
    accepted = [
        place
        for place in range(8 * len(good))
        if not codes(checker, good[: place // 8] + bytes([good[place // 8] ^ 1 << place % 8]) + good[place // 8 + 1 :])
    ]
    assert accepted == []


def test_every_truncation_is_refused(checker: CertificateChecker, good: bytes) -> None:
    assert all(codes(checker, good[:length]) == {"certificate-encoding"} for length in range(len(good)))


def test_a_ca_without_key_identifier_means_no_authority_key_identifier(good: bytes) -> None:
    bare = make_authority(key_identifier=None)
    leaf = good_certificate(bare)
    assert codes(checker_of(bare), leaf) == set()
    given_one = Fields(**{**vars(Fields.of(leaf)), "extensions": Fields.of(good).extensions})
    found = codes(checker_of(bare), given_one.signed(bare.ca_key))
    assert "certificate-authority-identifier" in found


def test_a_window_after_2049_is_generalized_time(authority: Authority) -> None:
    later = NOT_AFTER.replace(year=2050)
    checker = CertificateChecker(authority.ca_der, factory=FACTORY, not_before=NOT_BEFORE, not_after=later)
    fields = Fields.of(good_certificate(authority))
    validity = element(0x30, element(0x17, b"261123160000Z"), element(0x18, b"20501231235959Z"))
    leaf = Fields(**{**vars(fields), "validity": validity}).signed(authority.ca_key)
    assert codes(checker, leaf) == set()


@given(st.binary(max_size=64))
def test_any_octets_are_der_or_refused(octets: bytes) -> None:
    try:
        elements = split(octets)
    except DerError:
        return
    assert b"".join(elements) == octets
    assert all(element(one[0], content(one, one[0])) == one for one in elements)


@given(st.binary(min_size=1, max_size=300))
def test_pem_is_read_as_it_is_written(octets: bytes) -> None:
    assert unwrap(certificate_pem(CertificateDer(octets)), b"CERTIFICATE") == octets


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"-----BEGIN", b"\n-----BEGIN"),
        (b"-----BEGIN", b"text\n-----BEGIN"),
        (b"-----\n", b"-----\r\n"),
        (b"END CERTIFICATE-----\n", b"END CERTIFICATE-----"),
        (b"END CERTIFICATE-----\n", b"END CERTIFICATE-----\n\n"),
        (b"CERTIFICATE", b"X509 CERTIFICATE"),
        (b"=\n", b"\n"),
        (b"AAE=", b"AAF="),
        (b"A", b"*"),
        (b"AAAAAAAA\n", b"AAAA\nAAAA\n"),
        (b"A" * 63, b"A" * 62 + b" "),
    ],
)
def test_pem_in_any_other_form_is_refused(old: bytes, new: bytes) -> None:
    text = certificate_pem(CertificateDer(bytes(97) + b"\1"))
    assert old in text
    with pytest.raises(PemError):
        unwrap(text.replace(old, new), b"CERTIFICATE")
