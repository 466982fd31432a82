"""Two engines, one product: the same keys, signatures and runs by either, whatever is installed, and after any fork."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import audit
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from engines import each_engine, need_awscrt
from judges import (
    FORMATS,
    Ran,
    csv_bytes,
    device_uuids,
    interrupted_run,
    issue,
    openssl_accepts,
    refusal,
    run,
    run_process,
    stored_bundles,
)
from test_minting import issuance

from batch_issuer.authority.signers import FileKey
from batch_issuer.cli.issue import _WORKER_MODULES
from batch_issuer.errors import RefusedError, RunFailedError
from batch_issuer.minting.keys import POINT_OFFSET, SEC1_LENGTH, choose_engine, key_engine
from batch_issuer.minting.mint import Mint, TemplateMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

UUIDS = device_uuids(12)
MANIFEST = csv_bytes(UUIDS)
CA = ec.derive_private_key(0x5EC1, ec.SECP256R1())
PLAIN = (Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def ca_der(form: PrivateFormat = PrivateFormat.TraditionalOpenSSL) -> bytes:
    return CA.private_bytes(Encoding.DER, form, NoEncryption())


def loaded(der: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_der_private_key(der, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def summary() -> dict[str, object]:
    values: dict[str, object] = json.loads(Path("issued/summary.json").read_bytes())
    return values


# Keys and signatures


@each_engine
def test_keys_are_octet_for_octet_what_cryptography_writes(engine: str) -> None:
    """Of 3,000 some begin with zero octets: a key of another length would put the point elsewhere."""
    made = key_engine(engine).private_keys(3000)
    assert len(set(made)) == 3000
    assert any(der[7] == 0 for der in made)
    for der in [*made[:200], *(der for der in made if der[7] == 0)]:
        assert loaded(der).private_bytes(*PLAIN) == der
        assert (len(der), der[POINT_OFFSET]) == (SEC1_LENGTH, 4)


@need_awscrt
@pytest.mark.parametrize("scalar", [1, 255, 2**8, 2**127, 2**240 - 1, 2**248 - 1, 2**248, 2**255])
def test_private_numbers_that_awscrt_shortens_are_written_in_32_octets(
    scalar: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key of 256 would be unreadable: RFC 5915 section 3 wants an octet string of 32 octets."""
    from awscrt.crypto import EC

    key = ec.derive_private_key(scalar, ec.SECP256R1())
    engine = key_engine("aws-lc")

    class Fixed:
        new_generate = staticmethod(lambda _: EC.new_key_from_der_data(key.private_bytes(*PLAIN)))

    monkeypatch.setattr(engine, "_keys", Fixed)
    assert engine.private_keys(2) == [key.private_bytes(*PLAIN)] * 2


@each_engine
@pytest.mark.parametrize("scalar", [255, 2**240 - 1])
def test_a_ca_key_of_a_small_number_signs(engine: str, scalar: int) -> None:
    key = ec.derive_private_key(scalar, ec.SECP256R1())
    signature = key_engine(engine).signature(key.private_bytes(*PLAIN))(b"data")
    key.public_key().verify(signature, b"data", ec.ECDSA(hashes.SHA256()))


@each_engine
def test_openssl_reads_the_keys(engine: str, tmp_path: Path) -> None:
    for der in key_engine(engine).private_keys(5):
        (tmp_path / "key.der").write_bytes(der)
        command = ["openssl", "ec", "-inform", "DER", "-in", str(tmp_path / "key.der"), "-check", "-text"]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stderr
        assert "EC Key valid" in shown.stdout + shown.stderr
        assert "ASN1 OID: prime256v1" in shown.stdout


@each_engine
@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
def test_signatures_verify_and_are_der_of_any_length(engine: str, form: PrivateFormat) -> None:
    sign = key_engine(engine).signature(ca_der(form))
    messages = [b"message %d" % number * 30 for number in range(1500)]
    signatures = [sign(message) for message in messages]
    assert len({*map(len, signatures)}) > 2
    for message, signature in zip(messages, signatures, strict=True):
        CA.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))
        assert encode_dss_signature(*decode_dss_signature(signature)) == signature


@each_engine
def test_no_two_signatures_have_one_nonce(engine: str) -> None:
    sign = key_engine(engine).signature(ca_der())
    assert len({decode_dss_signature(sign(b"the same"))[0] for _ in range(500)}) == 500


@each_engine
def test_certificates_signed_by_the_engine_are_the_cas(engine: str) -> None:
    made = key_engine(engine)
    part = Mint(issuance(), made, made.signature(ca_der()), CA.public_key()).part(
        [uuid.encode() for uuid in device_uuids(300)], production=False
    )
    for der in part.certificates:
        leaf = x509.load_der_x509_certificate(der)
        CA.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    other = Mint(issuance(), made, made.signature(ca_der()), ec.generate_private_key(ec.SECP256R1()).public_key())
    with pytest.raises(TemplateMismatch, match=r"^the CA's signature on the certificate of .* is wrong$"):
        other.part([UUIDS[0].encode()], production=False)


# Forks


def in_children(draw: Callable[[], bytes], children: int = 8) -> list[bytes]:
    """What forked children of this process draw, and then this process itself."""
    drawn = []
    for _ in range(children):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, draw())
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(write)
        drawn.append(os.read(read, 1000))
        os.close(read)
    return [*drawn, draw()]


@each_engine
def test_children_forked_after_the_library_was_used_share_no_key_and_no_nonce(engine: str) -> None:
    """The worst case, which workers do not even come near: they are forked before it is loaded."""
    made = key_engine(engine)
    sign = made.signature(ca_der())
    made.private_keys(3), sign(b"warm")
    assert len({*in_children(lambda: made.private_keys(1)[0])}) == 9
    nonces = {decode_dss_signature(signature)[0] for signature in in_children(lambda: sign(b"the same"))}
    assert len(nonces) == 9


def test_what_the_fork_server_imports_does_not_load_aws_lc() -> None:
    code = f"import sys, {', '.join(_WORKER_MODULES)}; print(sorted(name for name in sys.modules if 'awscrt' in name))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown == "[]\n"


@need_awscrt
def test_choosing_loads_no_library_and_using_starts_no_thread() -> None:
    code = (
        "import os, sys; from batch_issuer.minting.keys import choose_engine, key_engine; print(choose_engine('auto'));"
        "print('_awscrt' in sys.modules); key_engine('aws-lc').private_keys(9);"
        "print('_awscrt' in sys.modules, len(os.listdir('/proc/self/task')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["aws-lc", "False", "True", "1"]


@each_engine
def test_many_workers_of_one_run_share_no_key_and_no_serial_number(engine: str, work: Path) -> None:
    uuids = device_uuids(400)
    Path("devices.csv").write_bytes(csv_bytes(uuids))
    options = ("--key-engine", engine, "--workers", "8", "--part-size", "5", "--format", "tar", "--hardware-id", "hw")
    ran = run("issue", "--manifest", "devices.csv", *options)
    assert ran.code == 0, ran.err
    bundles = stored_bundles(Path("issued"))
    assert len({files["pkey.pem"] for files in bundles.values()}) == 400
    leaves = [x509.load_pem_x509_certificate(files["client.pem"]) for files in bundles.values()]
    assert len({leaf.serial_number for leaf in leaves}) == 400
    assert len({decode_dss_signature(leaf.signature)[0] for leaf in leaves}) == 400


# Runs


@each_engine
@pytest.mark.parametrize("name", FORMATS)
def test_a_run_by_either_engine_is_the_same_run(engine: str, name: str, work: Path) -> None:
    ran = issue(MANIFEST, "--key-engine", engine, "--format", name, "--manifest-format", "parquet")
    assert ran.code == 0, ran.err
    ca = x509.load_pem_x509_certificate(Path("pki/local-ca.pem").read_bytes())
    audit.check_finished(Path("issued"), UUIDS, ca, {})
    assert summary()["key_engine"] == engine
    assert "engine" not in Path("issued/run.json").read_text()
    files = stored_bundles(Path("issued"))[UUIDS[3]]
    Path("leaf.pem").write_bytes(files["client.pem"])
    assert openssl_accepts(Path("leaf.pem"), Path("pki"), partial=False)
    verified = run("verify", "issued")
    assert verified.code == 0, verified.err


@need_awscrt
@pytest.mark.parametrize(("first", "then"), [("openssl", "aws-lc"), ("aws-lc", "openssl")])
def test_a_run_goes_on_with_the_other_engine(
    first: str, then: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one made a key is nowhere to be seen, so it is no part of what was asked: like the number of workers."""
    interrupted_run(monkeypatch, MANIFEST, "--key-engine", first)
    ran = issue(MANIFEST, "--key-engine", then, "--resume", "-v")
    assert ran.code == 0, ran.err
    assert summary()["key_engine"] == then
    assert f"keys by {then})" in ran.out
    assert run("verify", "issued").code == 0


@each_engine
def test_a_dry_run_estimates_by_the_engine(engine: str, work: Path) -> None:
    ran = issue(MANIFEST, "--key-engine", engine, "--dry-run")
    assert (ran.code, "nothing was written" in ran.out) == (0, True)


# What is installed


def fake_awscrt(folder: Path, version: str) -> None:
    """An `awscrt` of some version, of which nothing can be loaded."""
    (folder / "awscrt").mkdir(parents=True)
    (folder / "awscrt/__init__.py").write_text(f"__version__ = {version!r}\n")
    (folder / "_awscrt.py").write_text("")


def issue_beside(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> Ran:
    """`issue` in a process of its own that finds what is in `folder` first."""
    monkeypatch.setenv("PYTHONPATH", str(folder))
    Path("devices.csv").write_bytes(MANIFEST)
    return run_process("issue", "--manifest", "devices.csv", "--hardware-id", "hw", *options)


@pytest.mark.parametrize("version", ["0.27.6", "0.9.1", "0.28.3", "of my own"])
def test_an_awscrt_too_old_is_refused(version: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_awscrt(work / "old", version)
    ran = issue_beside(work / "old", monkeypatch, "--key-engine", "aws-lc")
    error = f"the key engine aws-lc needs awscrt 0.28.4 or later; {version} is installed"
    refusal(ran, 2, error, hint="pip install 'batch-issuer[fast]', or take --key-engine openssl")


def test_auto_takes_openssl_beside_an_awscrt_too_old(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_awscrt(work / "old", "0.27.6")
    ran = issue_beside(work / "old", monkeypatch)
    assert (ran.code, summary()["key_engine"]) == (0, "openssl")


def test_a_library_that_cannot_be_loaded_ends_the_run_and_openssl_finishes_it(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_awscrt(work / "broken", "99.0.0")
    ran = issue_beside(work / "broken", monkeypatch, "--key-engine", "aws-lc")
    assert ran.code == 1
    assert "error: the key engine aws-lc cannot be loaded: No module named 'awscrt.crypto'\n" in ran.err
    assert "hint: take --key-engine openssl; what began goes on with it, by --resume\n" in ran.err
    ran = issue_beside(work / "broken", monkeypatch, "--key-engine", "openssl", "--resume")
    assert (ran.code, summary()["devices_now"]) == (0, len(UUIDS))


def test_without_awscrt_auto_is_openssl_and_aws_lc_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_issuer.extras.find_spec", lambda _: None)
    ran = issue(MANIFEST, "--key-engine", "aws-lc")
    error = "this command needs awscrt, _awscrt, which is not installed"
    refusal(ran, 2, error, hint="pip install 'batch-issuer[fast]'")
    assert issue(MANIFEST).code == 0
    assert summary()["key_engine"] == "openssl"


@need_awscrt
def test_auto_takes_aws_lc_where_it_is_installed(work: Path) -> None:
    assert issue(MANIFEST).code == 0
    assert summary()["key_engine"] == "aws-lc"


def test_an_unknown_engine_is_refused(work: Path) -> None:
    assert issue(MANIFEST, "--key-engine", "abacus").code == 2
    with pytest.raises(RefusedError, match=r"^key engine 'abacus' is not known$"):
        choose_engine("abacus")


# Secrets


def damaged(name: str) -> bytes:
    """A key of AWS-LC's whose number is one octet short, and which is otherwise not what it should be."""
    good = ec.derive_private_key(2**248 - 1, ec.SECP256R1()).private_bytes(*PLAIN)
    short = bytearray(b"\x30\x76\x02\x01\x01\x04\x1f" + good[8:])
    if name == "outer length":
        short[1] = 0x77
    elif name == "number's length":
        short[6] = 0x20
    elif name == "curve":
        short[40] ^= 1
    elif name == "no point":
        return bytes(short[:-68])
    elif name == "longer":
        return good + b"\0"
    else:
        assert name == "nothing"
        return b""
    return bytes(short)


@need_awscrt
@pytest.mark.parametrize("name", ["outer length", "number's length", "curve", "no point", "longer", "nothing"])
def test_a_key_of_another_form_ends_the_run_and_is_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd:
        @classmethod
        def new_generate(cls, _kind: int) -> Odd:
            return cls()

        def export_key(self, _form: int) -> bytes:
            return damaged(name)

    engine = key_engine("aws-lc")
    monkeypatch.setattr(engine, "_keys", Odd)
    with pytest.raises(RunFailedError) as raised:
        engine.private_keys(2)
    assert str(raised.value) == "the key engine aws-lc made a key that is not SEC1 with named curve and public key"
    assert raised.value.hint is None


@each_engine
def test_no_key_is_in_any_repr(engine: str) -> None:
    made = key_engine(engine)
    source = FileKey(ca_der())
    shown = f"{made!r} {made.signature(source.der)!r} {source!r} {vars(made)!r}"
    assert not re.search(rf"{CA.private_numbers().private_value:x}|5ec1|\\x5e\\xc1", shown.casefold())
