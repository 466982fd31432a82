"""The fast path equals the readable one, octet by octet; and what cannot be equal is thrown away."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key
from csrs import FORMS, forms_of, make_csr, spki_of, subject_name
from engines import each_engine
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_issuer.devices import DeviceRequest
from batch_issuer.errors import RefusedError
from batch_issuer.minting.keys import POINT_OFFSET, SEC1_LENGTH, OpenSSLKeys, key_engine
from batch_issuer.minting.mint import Mint, TemplateMismatch
from batch_issuer.minting.reference import DeviceIssuance, device_certificate, requested_certificate
from batch_issuer.minting.requested import cut_requested_template, read_requested, requested_certificates
from batch_issuer.minting.template import certificates, cut_template, serial_numbers
from batch_issuer.profiles import ValidityWindow, factory_name

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509.name import _ASN1Type

    from batch_issuer.devices import Sec1Der

CA_KEY = ec.derive_private_key(0x1F2E3D4C5B6A79888796A5B4C3D2E1F0, ec.SECP256R1())
DETERMINISTIC = partial(CA_KEY.sign, signature_algorithm=ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
MOMENT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=64)
moments = st.datetimes(datetime(1990, 1, 1), datetime(2140, 1, 1)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC))
issuances = st.builds(
    DeviceIssuance,
    issuer=st.builds(factory_name, names.filter(lambda name: len(name.encode()) <= 64), names),
    authority_key_identifier=st.none() | st.binary(min_size=1, max_size=64),
    factory=names,
    window=st.tuples(moments, st.integers(1, 36_500)).map(
        lambda drawn: ValidityWindow(drawn[0], drawn[0] + timedelta(days=drawn[1]))
    ),
)


def issuance(**overrides: object) -> DeviceIssuance:
    values: dict[str, object] = {
        "issuer": factory_name("fio-local", "acme"),
        "authority_key_identifier": bytes(range(20)),
        "factory": "acme",
        "window": ValidityWindow(MOMENT, MOMENT + timedelta(days=3650)),
    }
    return DeviceIssuance(**values | overrides)  # type: ignore[arg-type]


@each_engine
@settings(deadline=None, max_examples=60)
@given(issued=issuances, uuid=st.uuids(), production=st.booleans(), random=st.binary(min_size=20, max_size=20))
def test_template_and_reference_give_the_same_octets(
    engine: str, issued: DeviceIssuance, uuid: object, production: bool, random: bytes
) -> None:
    [private_key] = key_engine(engine).private_keys(1)
    serial = serial_numbers(random)
    template = cut_template(issued, production=production)
    [fast] = certificates([template], [str(uuid).encode()], serial, [private_key], DETERMINISTIC)
    key = load_der_private_key(private_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    request = DeviceRequest(str(uuid), production)
    slow = device_certificate(issued, request, key.public_key(), int.from_bytes(serial), CA_KEY, deterministic=True)
    assert fast == slow.public_bytes(Encoding.DER)
    assert len(fast) <= template.longest
    tbs = x509.load_der_x509_certificate(fast).tbs_certificate_bytes
    CA_KEY.public_key().verify(slow.signature, tbs, ec.ECDSA(hashes.SHA256()))


@given(random=st.binary(min_size=20, max_size=200).filter(lambda b: len(b) % 20 == 0))
def test_serial_numbers_are_positive_and_of_20_octets_and_159_bits(random: bytes) -> None:
    serials = serial_numbers(random)
    assert len(serials) == len(random)
    for start in range(0, len(serials), 20):
        number = int.from_bytes(serials[start : start + 20])
        assert number.bit_length() == 159
        assert serials[start + 1 : start + 20] == random[start + 1 : start + 20]


@each_engine
def test_a_part_has_distinct_keys_and_serials_and_right_digests(engine: str) -> None:
    mint = Mint(issuance(), key_engine(engine), DETERMINISTIC, CA_KEY.public_key())
    uuids = [f"00000000-0000-4000-8000-{i:012x}".encode() for i in range(200)]
    part = mint.part(uuids, [i % 3 == 0 for i in range(200)])
    assert len(set(part.private_keys)) == 200
    assert len({part.serials[i : i + 20] for i in range(0, 4000, 20)}) == 200
    for index, der in enumerate(part.certificates):
        certificate = x509.load_der_x509_certificate(der)
        assert certificate.fingerprint(hashes.SHA256()) == part.certificate_digests[32 * index : 32 * index + 32]
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(spki)
        assert digest.finalize() == part.public_key_digests[32 * index : 32 * index + 32]
        assert certificate.serial_number.to_bytes(20) == part.serials[20 * index : 20 * index + 20]
        assert ("production" in certificate.subject.rfc4514_string()) == (index % 3 == 0)
        private_key = part.private_keys[index]
        assert private_key is not None
        assert spki.endswith(private_key[POINT_OFFSET:])
    assert "private_keys" not in repr(part)


def test_a_template_that_differs_from_the_definition_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = cut_template(issuance(factory="other"), production=False)
    mint = Mint(issuance(), key_engine("openssl"), DETERMINISTIC, CA_KEY.public_key())
    monkeypatch.setitem(mint._templates, False, other)
    uuid = b"00000000-0000-4000-8000-000000000001"
    with pytest.raises(TemplateMismatch, match=rf"^the certificate of {uuid.decode()} differs from its definition$"):
        mint.part([uuid], production=False)


# Certificates for keys that devices keep

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=64)


@settings(deadline=None, max_examples=60)
@given(
    issued=issuances,
    uuid=st.uuids(),
    unit=texts,
    order=st.permutations(["CN", "OU", "BC"]) | st.permutations(["CN", "OU"]),
    random=st.binary(min_size=20, max_size=20),
)
def test_template_and_reference_give_the_same_octets_for_any_csr(
    issued: DeviceIssuance, uuid: object, unit: str, order: list[str], random: bytes
) -> None:
    """Units of up to 256 octets: the lengths of subject and certificate take one octet, two or three."""
    pem = make_csr(str(uuid), order, factory=unit)
    serial = serial_numbers(random)
    [fast] = requested_certificates(cut_requested_template(issued), [read_requested(pem)], serial, DETERMINISTIC)
    csr = x509.load_pem_x509_csr(pem)
    slow = requested_certificate(issued, csr, int.from_bytes(serial), CA_KEY, deterministic=True)
    assert fast == slow.public_bytes(Encoding.DER)
    assert slow.subject.public_bytes() == csr.subject.public_bytes()
    assert slow.public_key() == csr.public_key()


@pytest.mark.parametrize("form", FORMS)
def test_a_csrs_subject_keeps_its_order_and_string_types(form: tuple[tuple[str, ...], _ASN1Type]) -> None:
    uuid = "00000000-0000-4000-8000-000000000001"
    mint = Mint(issuance(), key_engine("openssl"), DETERMINISTIC, CA_KEY.public_key())
    pem = make_csr(uuid, *form)
    part = mint.part([uuid.encode()], False, [pem])
    leaf = x509.load_der_x509_certificate(part.certificates[0])
    assert leaf.subject.public_bytes() == subject_name(uuid, *form).public_bytes()
    assert part.private_keys == [None]
    assert part.public_key_digests == hashlib.sha256(spki_of(pem)).digest()


class CountingEngine(OpenSSLKeys):
    name = "counting"

    def __init__(self) -> None:
        self.made: list[int] = []

    def private_keys(self, count: int) -> list[Sec1Der]:
        self.made.append(count)
        return super().private_keys(count)


def test_a_mixed_part_keeps_the_order_of_its_rows_and_makes_only_the_keys_that_lack() -> None:
    engine = CountingEngine()
    mint = Mint(issuance(), engine, DETERMINISTIC, CA_KEY.public_key())
    uuids = [f"00000000-0000-4000-8000-{i:012x}" for i in range(30)]
    csrs = forms_of(uuids, 3)
    part = mint.part([uuid.encode() for uuid in uuids], [i % 2 == 1 for i in range(30)], [*map(csrs.get, uuids)])
    assert engine.made == [20]
    for index, (uuid, der, key) in enumerate(zip(uuids, part.certificates, part.private_keys, strict=True)):
        leaf = x509.load_der_x509_certificate(der)
        spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == uuid
        assert leaf.serial_number.to_bytes(20) == part.serials[20 * index : 20 * index + 20]
        assert leaf.fingerprint(hashes.SHA256()) == part.certificate_digests[32 * index : 32 * index + 32]
        assert hashlib.sha256(spki).digest() == part.public_key_digests[32 * index : 32 * index + 32]
        if uuid in csrs:
            assert key is None
            assert spki == spki_of(csrs[uuid])
        else:
            assert key is not None
            assert spki.endswith(key[POINT_OFFSET:])
            assert ("production" in leaf.subject.rfc4514_string()) == (index % 2 == 1)


def test_where_every_device_keeps_its_key_none_is_made() -> None:
    engine = CountingEngine()
    mint = Mint(issuance(), engine, DETERMINISTIC, CA_KEY.public_key())
    uuids = [f"00000000-0000-4000-8000-{i:012x}" for i in range(4)]
    part = mint.part([uuid.encode() for uuid in uuids], False, [*map(make_csr, uuids)])
    assert (engine.made, part.private_keys) == ([0], [None] * 4)


def test_a_template_for_csrs_that_differs_from_the_definition_is_refused() -> None:
    mint = Mint(issuance(), key_engine("openssl"), DETERMINISTIC, CA_KEY.public_key())
    uuids = [f"00000000-0000-4000-8000-{i:012x}".encode() for i in (1, 2)]
    csrs = [make_csr(uuids[0].decode()), make_csr(uuids[1].decode(), ("CN", "OU", "BC"))]
    mint.part(uuids, False, csrs)
    mint._requested_template = cut_requested_template(issuance(authority_key_identifier=None))
    with pytest.raises(TemplateMismatch, match=r"^the certificate of .*2 differs from its definition$"):
        mint.part(uuids[1:], False, csrs[1:])


def test_a_csr_that_is_none_is_no_certificate() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(ValueError, match="subsection not found"):
        read_requested(make_csr("00000000-0000-4000-8000-000000000001", key=key))


def test_a_signature_of_another_key_on_a_csrs_certificate_is_refused() -> None:
    mint = Mint(issuance(), key_engine("openssl"), DETERMINISTIC, ec.generate_private_key(ec.SECP256R1()).public_key())
    uuid = "00000000-0000-4000-8000-000000000001"
    with pytest.raises(TemplateMismatch, match=r"^the CA's signature on the certificate of .* is wrong$"):
        mint.part([uuid.encode()], False, [make_csr(uuid)])


def test_a_signature_of_another_key_is_refused() -> None:
    mint = Mint(issuance(), key_engine("openssl"), DETERMINISTIC, ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(TemplateMismatch, match=r"^the CA's signature on the certificate of .* is wrong$"):
        mint.part([b"00000000-0000-4000-8000-000000000001"], production=False)


def test_a_name_that_hides_a_field_of_the_template_is_refused() -> None:
    with pytest.raises(ValueError, match="not where the template expects them"):
        cut_template(issuance(factory="0f1e2d3c-4b5a-4978-8697-a5b4c3d2e1f0"), production=False)


def test_an_unknown_engine_lists_the_known_ones() -> None:
    with pytest.raises(RefusedError, match=r"^key engine 'abacus' is not known$") as raised:
        key_engine("abacus")
    assert raised.value.hint == "known engines: aws-lc, openssl"


@each_engine
def test_keys_are_sec1_with_the_point_where_the_template_takes_it(engine: str) -> None:
    for der in key_engine(engine).private_keys(50):
        assert len(der) == SEC1_LENGTH
        key = load_der_private_key(der, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) == der[POINT_OFFSET:]


@each_engine
def test_openssl_reads_the_certificate(engine: str, tmp_path: Path) -> None:
    mint = Mint(issuance(), key_engine(engine), DETERMINISTIC, CA_KEY.public_key())
    part = mint.part([b"00000000-0000-4000-8000-00000000abcd"], production=True)
    (tmp_path / "leaf.der").write_bytes(part.certificates[0])
    shown = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "leaf.der", "-inform", "DER", "-noout", "-text"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.search(
        r"Subject: CN ?= ?00000000-0000-4000-8000-00000000abcd, OU ?= ?acme, businessCategory ?= ?production", shown
    )
    assert re.search(r"X509v3 Key Usage: critical\s+Digital Signature\n", shown)
    assert re.search(r"X509v3 Extended Key Usage: critical\s+TLS Web Client Authentication\n", shown)


@each_engine
def test_children_of_one_process_never_share_keys_or_serials(engine: str) -> None:
    """The engine's generator and the kernel's, after a fork (RFC 4086): four children of one warmed-up parent."""
    key_engine(engine).private_keys(1)
    seen = []
    for _ in range(4):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, key_engine(engine).private_keys(1)[0] + serial_numbers(os.urandom(20)))
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(write)
        seen.append(os.read(read, 200))
        os.close(read)
    assert len({drawn[:121] for drawn in seen}) == len({drawn[121:] for drawn in seen}) == 4
