"""`ca create`: what the directory holds, that the root is made once, and what a kill leaves."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from pki import make_pki

from batch_issuer.authority.issuer import load_issuer
from batch_issuer.authority.names import host_fault, text_fault
from batch_issuer.ceremony.create import create_pki
from batch_issuer.cli.ca import ca
from batch_issuer.errors import AuthorityError, BatchIssuerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2028, 2, 29, 12, 0, 0, 999, UTC)
HOSTS = ("gw.example.com", "ostree.example.com")
FILES = [
    "ca-crt",
    "factory_ca.key",
    "factory_ca.pem",
    "gateway/online-ca.key",
    "gateway/tls.key",
    "local-ca.key",
    "local-ca.pem",
    "online-crt",
    "tls-crt",
]
BLOCKS = [path for path in FILES if path != "ca-crt"]


def tree(directory: Path) -> dict[str, tuple[int, str]]:
    """Every path below with its mode and the digest of its content."""
    return {
        str(path.relative_to(directory)): (
            stat.S_IMODE(path.lstat().st_mode),
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(directory.rglob("*"))
    }


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "pki"
    create_pki(directory, factory="acme", gateway_host=HOSTS[0], ostree_host=HOSTS[1], now=NOW)
    return directory


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


# What is there


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_layout_and_modes_under_any_umask(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        made = create_pki(tmp_path / "pki", factory="acme", gateway_host=HOSTS[0], now=NOW)
    finally:
        os.umask(previous)
    found = {path: mode for path, (mode, _) in tree(tmp_path / "pki").items()}
    assert found == dict.fromkeys(FILES, 0o400) | {"gateway": 0o700}
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    assert sorted(str(path.relative_to(tmp_path / "pki")) for path in made) == FILES
    assert made[-1].name == "factory_ca.pem"


def test_an_existing_directory_keeps_its_mode_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("ours")
    tmp_path.chmod(0o750)
    create_pki(tmp_path, factory="acme", local_ca=False, online_ca=False, now=NOW)
    assert sorted(tree(tmp_path)) == ["README", "factory_ca.key", "factory_ca.pem"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


@pytest.mark.parametrize("path", BLOCKS)
def test_a_file_is_one_pem_block_and_no_octet_more(pki: Path, path: str) -> None:
    text = (pki / path).read_bytes()
    label = b"EC PRIVATE KEY" if path.endswith(".key") else b"CERTIFICATE"
    assert re.fullmatch(
        b"-----BEGIN %b-----\n([A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/=]{1,64}\n-----END %b-----\n" % (label, label), text
    )


@pytest.mark.parametrize(
    ("key", "cert"),
    [
        ("factory_ca.key", "factory_ca.pem"),
        ("local-ca.key", "local-ca.pem"),
        ("gateway/tls.key", "tls-crt"),
        ("gateway/online-ca.key", "online-crt"),
    ],
)
def test_keys_are_p256_and_their_certificates(pki: Path, key: str, cert: str) -> None:
    loaded = load_pem_private_key((pki / key).read_bytes(), None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert isinstance(loaded.curve, ec.SECP256R1)
    assert loaded.public_key() == certificate(pki / cert).public_key()


def utf8_name(common_name: str, unit: str) -> bytes:
    """Name ::= SEQUENCE { SET { SEQUENCE { id-at-commonName, UTF8String } }, SET { ... id-at-organizationalUnit } }."""

    def tlv(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    attributes = ((b"\x55\x04\x03", common_name), (b"\x55\x04\x0b", unit))
    sets = [tlv(0x31, tlv(0x30, tlv(6, oid) + tlv(12, value.encode()))) for oid, value in attributes]
    return tlv(0x30, b"".join(sets))


def test_one_host_is_one_name_and_no_host_no_server_certificate(tmp_path: Path) -> None:
    create_pki(tmp_path / "one", factory="acme", gateway_host="gw", now=NOW)
    names = certificate(tmp_path / "one/tls-crt").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["gw"]
    create_pki(tmp_path / "none", factory="acme", now=NOW)
    assert sorted(tree(tmp_path / "none")) == sorted({*FILES, "gateway"} - {"gateway/tls.key", "tls-crt"})


@pytest.mark.parametrize("arguments", [["local-ca.pem"], ["-purpose", "sslserver", "tls-crt"]])
def test_openssl_verifies_the_chain_strictly(tmp_path: Path, arguments: list[str]) -> None:
    make_pki(tmp_path / "pki")
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "factory_ca.pem", *arguments]
    done = subprocess.run(command, cwd=tmp_path / "pki", capture_output=True, text=True, check=False)
    assert done.stdout == f"{arguments[-1]}: OK\n", done.stderr


def test_openssl_reads_it_as_we_mean_it(pki: Path) -> None:
    command = ["openssl", "x509", "-in", "local-ca.pem", "-noout", "-text", "-nameopt", "RFC2253,show_type"]
    text = subprocess.run(command, cwd=pki, capture_output=True, text=True, check=True).stdout
    for line in (
        "Subject: OU=UTF8STRING:acme,CN=UTF8STRING:fio-local",
        "ASN1 OID: prime256v1",
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Certificate Sign\n",
        "Signature Algorithm: ecdsa-with-SHA256",
    ):
        assert line in text


# What is refused


def test_the_root_is_made_once(tmp_path: Path) -> None:
    make_pki(tmp_path / "pki")
    before = tree(tmp_path / "pki")
    with pytest.raises(AuthorityError) as caught:
        make_pki(tmp_path / "pki", factory="other")
    assert str(caught.value) == (
        f"{tmp_path}/pki holds a PKI already (factory_ca.key, factory_ca.pem, tls-crt, online-crt, ca-crt, gateway, "
        "local-ca.key, local-ca.pem), and a root is made once"
    )
    assert tree(tmp_path / "pki") == before


@pytest.mark.parametrize("path", ["factory_ca.key", "factory_ca.pem", "local-ca.key", "local-ca.pem", "tls-crt"])
def test_nothing_that_exists_is_written_over(tmp_path: Path, path: str) -> None:
    (tmp_path / path).symlink_to("nowhere")
    with pytest.raises(AuthorityError, match=re.escape(path)):
        make_pki(tmp_path)
    assert os.listdir(tmp_path) == [path]


def test_a_file_that_appears_after_the_check_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batch_issuer.ceremony.create._check_place", lambda *_, **__: None)
    (tmp_path / "factory_ca.key").write_text("theirs")
    with pytest.raises(AuthorityError, match=r"factory_ca\.key was made by somebody else in the meantime"):
        make_pki(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_a_place_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, none in (("file", "file"), ("missing/pki", "missing"), ("file/pki", "file")):
        with pytest.raises(AuthorityError) as caught:
            make_pki(tmp_path / place)
        assert str(caught.value) == f"a PKI is a directory in a directory that exists; {tmp_path / none} is none"


def test_a_failing_disk_is_said_and_not_taken_for_a_pki(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BatchIssuerError, match="cannot be written: No space left on device") as caught:
        create_pki(tmp_path, factory="acme", now=NOW)
    assert caught.value.exit_code == 1
    assert not (tmp_path / "factory_ca.pem").exists()


BAD_TEXTS = [
    ("", "must have 1 to 64 characters; it has 0"),
    ("x" * 65, "must have 1 to 64 characters; it has 65"),
    ("a\0b", "must have printable characters only; it has U+0000"),
    ("a\nb", "must have printable characters only; it has U+000A"),
    ("a\u202eb", "must have printable characters only; it has U+202E"),
    ("a\u2028b", "must have printable characters only; it has U+2028"),
    ("a\ud800b", "must have printable characters only; it has U+D800"),
    ("cafe\u0301", "must be in Unicode normalization form C; it is not"),
]


@pytest.mark.parametrize(("text", "fault"), BAD_TEXTS)
def test_names_that_certificates_must_not_bear(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(AuthorityError) as caught:
        create_pki(tmp_path / "pki", factory=text, now=NOW)
    assert str(caught.value) == f"a factory's name {fault}: {text!r}"
    with pytest.raises(AuthorityError) as caught:
        create_pki(tmp_path / "pki", factory="acme", ca_common_name=text, now=NOW)
    assert str(caught.value) == f"a CA's common name {fault}: {text!r}"
    assert not (tmp_path / "pki").exists()


@pytest.mark.parametrize("factory", ["a", "x" * 64, "Café & Söhne GmbH", "工場"])
def test_names_that_they_may_bear(tmp_path: Path, factory: str) -> None:
    make_pki(tmp_path / "pki", factory=factory)
    issuer = load_issuer(tmp_path / "pki", "local-ca", now=datetime.now(UTC))
    assert issuer.factory == factory


@given(st.text(max_size=80))
def test_a_good_name_is_printable_normal_and_short(text: str) -> None:
    if text_fault(text) is None:
        assert 1 <= len(text) <= 64
        assert unicodedata.normalize("NFC", text) == text
        assert text.encode().decode() == text
        assert len(text.splitlines()) == 1


NOT_LABELS = "must be labels of 1 to 63 letters, digits and inner hyphens with dots between them; it is not"
BAD_HOSTS = [
    ("", NOT_LABELS),
    ("gw..example", NOT_LABELS),
    ("gw.example.com.", NOT_LABELS),
    ("-gw.example", NOT_LABELS),
    ("gw-.example", NOT_LABELS),
    ("g_w.example", NOT_LABELS),
    ("*.example.com", NOT_LABELS),
    ("gw.example:8443", NOT_LABELS),
    ("https://gw", NOT_LABELS),
    ("gw\n", NOT_LABELS),
    ("x" * 64, NOT_LABELS),
    ("gw.exämple", "must be in its ASCII form, xn--…; it has other characters"),
    ("127.0.0.1", "must be a DNS name; it looks like an IP address"),
]


@pytest.mark.parametrize(("host", "fault"), BAD_HOSTS)
def test_hosts_that_are_none(tmp_path: Path, host: str, fault: str) -> None:
    with pytest.raises(AuthorityError) as caught:
        create_pki(tmp_path / "pki", factory="acme", gateway_host=host, now=NOW)
    assert str(caught.value) == f"a gateway's host {fault}: {host!r}"
    with pytest.raises(AuthorityError) as caught:
        create_pki(tmp_path / "pki", factory="acme", gateway_host="gw", ostree_host=host, now=NOW)
    assert str(caught.value) == f"an ostree host {fault}: {host!r}"
    assert not (tmp_path / "pki").exists()


def test_lengths_of_hosts(tmp_path: Path) -> None:
    long = ".".join(["x" * 61] * 4)
    assert host_fault(long + ".xxxxx") is None
    assert host_fault(long + ".xxxxxx") == "must have at most 253 characters; it has 254"
    with pytest.raises(AuthorityError, match="its certificate's common name, must have at most 64 characters; it has"):
        create_pki(tmp_path / "pki", factory="acme", gateway_host=long, now=NOW)
    create_pki(tmp_path / "pki", factory="acme", gateway_host=long[:63].replace("x.", "xx"), ostree_host=long, now=NOW)


def test_an_ostree_host_needs_a_gateway(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError) as caught:
        create_pki(tmp_path / "pki", factory="acme", ostree_host="ostree.example.com", now=NOW)
    assert str(caught.value) == "an ostree host goes into the gateway's certificate, and no gateway host was given"


# What a kill leaves


def _create_and_die(directory: Path, step: int) -> None:
    """Create a PKI, and die of SIGKILL at the `step`-th change of the file system; half of a write is done before."""
    left = step

    def dying(call: Callable[..., Any], *, is_write: bool = False) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if is_write:
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return wrapped

    os.open, os.mkdir, os.fsync = dying(os.open), dying(os.mkdir), dying(os.fsync)
    os.write = dying(os.write, is_write=True)
    create_pki(directory, factory="acme", gateway_host="gw.example.com", now=datetime.now(UTC))


def test_a_kill_at_any_step_is_harmless(tmp_path: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        directory = tmp_path / str(step)
        child = get_context("fork").Process(target=_create_and_die, args=(directory, step))
        child.start()
        child.join(30)
        assert child.exitcode in {0, -signal.SIGKILL}
        killed = child.exitcode != 0
        _assert_clear(directory)
    assert step > 25


def _assert_clear(directory: Path) -> None:
    """The directory is a whole PKI, or is refused by both loading and creating until it is emptied."""
    now = datetime.now(UTC)
    left = tree(directory)
    try:
        assert load_issuer(directory, "local-ca", now=now).hosts == ("gw.example.com",)
        assert sorted(left) == sorted([*FILES, "gateway"])
    except AuthorityError:
        if left:
            with pytest.raises(AuthorityError) as caught:
                make_pki(directory)
            assert tree(directory) == left
            found = str(caught.value).removeprefix(f"{directory} holds ").partition(", but no whole factory_ca.pem")[0]
            assert set(found.split(", ")) == {path for path in left if "/" not in path and not path.startswith(".")}
            assert "a `ca create` was stopped here" in str(caught.value.hint)
        half = {path for path in left if re.fullmatch(r"(gateway/)?\.[a-z-]+(\.key|-crt)?\.[0-9]+\.new", path)}
        assert set(left) - half <= {*FILES, "gateway"}
        assert all(left[path][0] == 0o400 for path in half)
        subprocess.run(["rm", "-rf", directory], check=True)
        make_pki(directory)
        assert load_issuer(directory, "local-ca", now=now).warnings == ()


# The command


def test_the_command_says_what_it_made_and_nothing_secret(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    arguments = ["create", str(directory), "--factory", "acme", "--gateway-host", "gw", "--user-id", "5e0"]
    done = CliRunner().invoke(ca, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert done.stdout == ""
    assert all(str(directory / path) in done.stderr for path in FILES)
    assert "PRIVATE" not in done.stderr
    assert certificate(directory / "local-ca.pem").subject.public_bytes() == utf8_name("fio-5e0", "acme")


def test_the_command_leaves_out_the_device_ca_when_told(tmp_path: Path) -> None:
    done = CliRunner().invoke(ca, ["create", str(tmp_path), "--factory", "acme", "--no-local-ca", "--no-online-ca"])
    assert done.exit_code == 0
    assert sorted(tree(tmp_path)) == ["factory_ca.key", "factory_ca.pem"]


def test_the_command_refuses_in_one_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(ca, ["create", str(tmp_path), "--factory", ""])
    assert done.exit_code == 2
    assert done.stderr == "error: a factory's name must have 1 to 64 characters; it has 0: ''\n"
    assert os.listdir(tmp_path) == []


def test_help_loads_no_cryptography() -> None:
    script = (
        "import sys; from batch_issuer.cli.ca import ca\n"
        "for command in ca.commands.values(): command(['--help'], standalone_mode=False)\n"
        "sys.exit('cryptography' in sys.modules or 'aiohttp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "batch-issuer ca create pki --factory acme\n" in done.stdout
    assert "batch-issuer ca update pki cas.pem\n" in done.stdout
