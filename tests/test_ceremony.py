"""The commands that change a PKI directory: what they make, what they refuse, and what a kill leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from judges import run
from pki import NOW, key_pem, make_certificate, make_openssl_pki, make_pki, name, p256

from batch_issuer.authority.device_cas import read_device_cas
from batch_issuer.authority.issuer import load_issuer
from batch_issuer.authority.layout import PkiDirectory
from batch_issuer.authority.revocation import DISABLED, ENABLED, REVOKED, Revocations, parse_crl, read_revocations
from batch_issuer.ceremony.device_cas import add_local_ca, add_online_ca
from batch_issuer.ceremony.directory import locked
from batch_issuer.ceremony.local import LocalBackend
from batch_issuer.ceremony.revoke import change_state
from batch_issuer.ceremony.rotate import rotate_tls
from batch_issuer.errors import AuthorityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

HIGH_SERIAL = (1 << 159) + 4711
"""160 bits: half of the CAs that fioctl makes have such a one."""


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    return make_pki(tmp_path / "pki", ostree_host="os.example.com")


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def serials(text: bytes) -> list[int]:
    return [ca.serial_number for ca in x509.load_pem_x509_certificates(text)]


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def openssl_accepts(directory: Path, *names: str) -> None:
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "factory_ca.pem", *names]
    assert subprocess.run(command, cwd=directory, capture_output=True, check=False).returncode == 0


def only_owner_reads(directory: Path) -> None:
    for path in directory.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o400), path


# Another device CA


def test_a_second_site_gets_its_own_ca(pki: Path) -> None:
    before = files(pki)
    done = run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "site2.pem", "--user-id", "5e0")
    assert (done.code, done.out) == (0, "")
    assert "site2.pem and its key are made; issue --ca-name site2 signs with it" in done.err
    after = files(pki)
    assert set(after) - set(before) == {"site2.pem", "site2.key"}
    assert {name for name in before if before[name] != after[name]} == {"ca-crt"}
    made = certificate(pki / "site2.pem")
    assert made.subject == name("fio-5e0", ("acme",))
    assert serials(after["ca-crt"]) == [*serials(before["ca-crt"]), made.serial_number]
    issuer = load_issuer(pki, "site2", now=datetime.now(UTC))
    assert issuer.warnings == ()
    openssl_accepts(pki, "site2.pem", "local-ca.pem", "online-crt")
    only_owner_reads(pki)


def test_a_ca_is_not_written_over(pki: Path) -> None:
    before = files(pki)
    done = run("ca", "add-device-ca", pki, "--local-ca")
    assert done.code == 2
    assert done.err.startswith(f"error: {pki} has a local-ca.pem already\nhint: if a command was stopped here, `batch-")
    (pki / "local-ca.pem").rename(pki / "online-crt.bak")
    done = run("ca", "add-device-ca", pki, "--local-ca")
    assert done.code == 2
    assert done.err.startswith(
        f"error: {pki} has a local-ca.key already\nhint: it has no local-ca.pem: if a command was"
    )
    assert files(pki) == {"online-crt.bak" if path == "local-ca.pem" else path: text for path, text in before.items()}
    assert run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "factory_ca.pem").code == 2
    assert run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "../x.pem").code == 2
    assert run("ca", "add-device-ca", pki).code == 2


def test_a_new_online_ca_leaves_the_old_one_trusted(pki: Path) -> None:
    before = files(pki)
    assert run("ca", "add-device-ca", pki, "--online-ca").code == 0
    after = files(pki)
    assert after["online-crt.bak"] == before["online-crt"]
    assert after["gateway/online-ca.key.bak"] == before["gateway/online-ca.key"]
    new = certificate(pki / "online-crt")
    assert serials(after["ca-crt"]) == [*serials(before["ca-crt"]), new.serial_number]
    key = load_pem_private_key(after["gateway/online-ca.key"], None)
    assert key.public_key() == new.public_key()
    only_owner_reads(pki)


# The whole list


def test_the_list_is_replaced(pki: Path, tmp_path: Path) -> None:
    assert run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "site2.pem").code == 0
    bundle = tmp_path / "cas.pem"
    bundle.write_bytes((pki / "site2.pem").read_bytes() + b"\n\n" + (pki / "local-ca.pem").read_bytes() + b"\n")
    done = run("ca", "update", pki, bundle)
    assert (done.code, done.err) == (0, "2 device CAs in force\n")
    shown = run("ca", "show", pki, "--just-device-cas").out.encode()
    assert serials(shown) == [certificate(pki / file).serial_number for file in ("site2.pem", "local-ca.pem")]
    assert shown == (pki / "ca-crt").read_bytes()


def test_a_ca_that_is_not_in_the_list_is_warned_of(pki: Path) -> None:
    assert load_issuer(pki, "local-ca", now=datetime.now(UTC)).warnings == ()
    assert run("ca", "update", pki, pki / "online-crt").code == 0
    assert load_issuer(pki, "local-ca", now=datetime.now(UTC)).warnings == (
        "local-ca.pem is not among the device CAs of ca-crt: gateways will not trust it",
    )


def bad_lists(pki: Path, other: Path) -> Iterable[tuple[bytes, str]]:
    local = (pki / "local-ca.pem").read_bytes()
    yield b"", "must hold PEM certificates and nothing else; its PEM blocks are: none"
    yield (pki / "local-ca.key").read_bytes() + local, "its PEM blocks are: CERTIFICATE, EC PRIVATE KEY"
    yield local[:300] + local[-60:], "certificate 1 of cas.pem must be a certificate as RFC 5280 has it; it is not"
    yield local + local, "must hold every certificate once; a serial number is there twice"
    yield (
        local + (pki / "factory_ca.pem").read_bytes(),
        "2 of cas.pem must be a device CA; it has the root's own key",
    )
    yield (pki / "tls-crt").read_bytes(), "certificate 1 of cas.pem must be a CA's certificate"
    yield (
        local + (other / "local-ca.pem").read_bytes(),
        "certificate 2 of cas.pem must be signed by the key of factory_ca.pem",
    )


def test_a_list_that_is_none_changes_nothing(pki: Path, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other")
    for text, fault in bad_lists(pki, other):
        (tmp_path / "cas.pem").write_bytes(text)
        before = files(pki)
        done = run("ca", "update", pki, tmp_path / "cas.pem")
        assert done.code == 2
        assert fault in done.err
        assert "PRIVATE" not in done.err.replace("EC PRIVATE KEY", "")
        assert files(pki) == before


def test_a_directory_of_fioctl_has_a_list_too(tmp_path: Path) -> None:
    """Without ca-crt, what lies in the directory is the list; a file of another factory is named."""
    pki = make_pki(tmp_path / "pki")
    (pki / "ca-crt").unlink()
    shown = run("ca", "show", pki, "--just-device-cas").out.encode()
    assert serials(shown) == [certificate(pki / file).serial_number for file in ("online-crt", "local-ca.pem")]
    shutil.copy(make_pki(tmp_path / "other") / "local-ca.pem", pki / "foreign.pem")
    done = run("ca", "show", pki)
    assert done.code == 2
    assert done.err.startswith("error: foreign.pem must be signed by the key of factory_ca.pem")


# Disabling, revoking, enabling


def test_a_disabled_ca_issues_nothing_until_it_is_enabled(pki: Path, tmp_path: Path) -> None:
    number = certificate(pki / "local-ca.pem").serial_number
    done = run("ca", "disable-device-ca", pki, "--ca-file", "local-ca")
    assert done.err == f"device CA {number} is disabled: its devices may connect, new ones are refused\n"
    (tmp_path / "devices.csv").write_text("device_uuid\n5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b\n")
    issue = ("issue", "--manifest", tmp_path / "devices.csv", "--pki", pki, "--out", tmp_path / "out")
    refused = run(*issue)
    assert refused.code == 2
    assert refused.err.startswith("error: local-ca.pem is disabled, ca-crl of the directory says;")
    assert not (tmp_path / "out").exists()
    assert number in serials((pki / "ca-crt").read_bytes())
    shown = json.loads(run("ca", "show", pki, "--json").out)
    assert [ca["state"] for ca in shown["device_cas"]] == ["active", "disabled"]
    assert run("ca", "enable-device-ca", pki, "--ca-serial", str(number)).code == 0
    assert run(*issue).code == 0
    again = run("ca", "enable-device-ca", pki, "--ca-file", "local-ca.pem")
    assert again.code == 2
    assert f"error: there is no disabled device CA with the serial number {number}" in again.err


def test_a_revoked_ca_is_out_of_the_list_until_it_is_back_in_it(pki: Path, tmp_path: Path) -> None:
    whole_list = (pki / "ca-crt").read_bytes()
    number = certificate(pki / "local-ca.pem").serial_number
    assert run("ca", "disable-device-ca", pki, "--ca-file", "local-ca").code == 0
    assert run("ca", "revoke-device-ca", pki, "--ca-file", "local-ca").code == 0
    assert number not in serials((pki / "ca-crt").read_bytes())
    with pytest.raises(AuthorityError, match=r"local-ca\.pem is revoked, ca-crl of the directory says"):
        load_issuer(pki, "local-ca", now=datetime.now(UTC))
    crl = (pki / "ca-crl").read_bytes()
    assert run("ca", "revoke-device-ca", pki, "--ca-file", "local-ca").code == 0  # done already: nothing changes
    assert (pki / "ca-crl").read_bytes() == crl
    (tmp_path / "cas.pem").write_bytes(whole_list)
    assert run("ca", "update", pki, tmp_path / "cas.pem").code == 0
    assert load_issuer(pki, "local-ca", now=datetime.now(UTC)).warnings == ()
    listed = read_revocations(pki / "ca-crl", certificate(pki / "factory_ca.pem"))
    assert (listed.number, listed.reasons) == (3, {})


def test_serial_numbers_of_160_bits(tmp_path: Path) -> None:
    pki = make_openssl_pki(tmp_path / "pki", serial=hex(HIGH_SERIAL))
    assert certificate(pki / "local-ca.pem").serial_number == HIGH_SERIAL
    assert HIGH_SERIAL.bit_length() == 160
    shown = run("ca", "disable-device-ca", pki, "--ca-serial", str(HIGH_SERIAL), "--dry-run", "--pretty")
    assert shown.code == 0
    assert f"Serial:       {HIGH_SERIAL}, reason certificateHold\n" in shown.out
    (tmp_path / "dry.crl").write_text(shown.out)
    text = [
        "openssl",
        "crl",
        "-in",
        str(tmp_path / "dry.crl"),
        "-noout",
        "-text",
        "-CAfile",
        str(pki / "factory_ca.pem"),
    ]
    said = subprocess.run(text, capture_output=True, text=True, check=True)
    assert "verify OK" in said.stderr
    assert f"Serial Number: {HIGH_SERIAL:X}" in said.stdout
    for command, reason in (("disable", DISABLED), ("enable", None), ("disable", DISABLED), ("revoke", REVOKED)):
        assert run("ca", f"{command}-device-ca", pki, "--ca-serial", str(HIGH_SERIAL)).code == 0
        listed = read_revocations(pki / "ca-crl", certificate(pki / "factory_ca.pem"))
        assert listed.reasons.get(HIGH_SERIAL) == reason
    with pytest.raises(AuthorityError, match=r"local-ca\.pem is revoked"):
        load_issuer(pki, "local-ca", now=datetime.now(UTC))


def test_a_dry_run_writes_nothing(pki: Path) -> None:
    before = files(pki)
    for command, reason in (("disable", DISABLED), ("revoke", REVOKED)):
        done = run("ca", f"{command}-device-ca", pki, "--ca-file", "local-ca.pem", "--dry-run")
        order = parse_crl(done.out.encode(), certificate(pki / "factory_ca.pem"), "it")
        assert order.reasons == {certificate(pki / "local-ca.pem").serial_number: reason}
        assert order.number == 1
    assert files(pki) == before


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ((), "error: no device CA was named\nhint: give --ca-file NAME or --ca-serial N"),
        (("--ca-serial", "1"), "there is no device CA in force with the serial number 1\nhint: `batch-issuer ca show`"),
        (("--ca-serial", "-1"), "expected a serial number in base 10, of at most 160 bits; got '-1'"),
        (("--ca-serial", "0x10"), "expected a serial number in base 10"),
        (("--ca-serial", str(1 << 160)), "expected a serial number in base 10"),
        (("--ca-serial", "٣"), "expected a serial number in base 10"),
        (("--ca-file", "nowhere"), "has no certificate file nowhere"),
        (("--ca-file", "../pki/local-ca.pem"), "a certificate file must be a plain name in"),
        (("--ca-file", "local-ca.key"), "must hold one PEM certificate; its PEM blocks are: EC PRIVATE KEY"),
        (("--ca-file", "tls-crt"), "there is no device CA in force with the serial number"),
    ],
)  # fmt: skip
def test_what_cannot_be_disabled(pki: Path, arguments: tuple[str, ...], fault: str) -> None:
    before = files(pki)
    done = run("ca", "disable-device-ca", pki, *arguments)
    assert done.code == 2
    assert fault in done.err
    assert files(pki) == before


def test_a_record_that_another_signed_is_refused(pki: Path, tmp_path: Path) -> None:
    other = make_pki(tmp_path / "other")
    for directory in (pki, other):
        assert run("ca", "disable-device-ca", directory, "--ca-file", "local-ca").code == 0
    shutil.copy(other / "ca-crl", tmp_path / "foreign")
    good = (pki / "ca-crl").read_bytes()
    for text, fault in (
        ((other / "ca-crl").read_bytes(), "ca-crl must be signed by the factory's root; it is not"),
        (good[:80] + good[-40:], "ca-crl must be a list as RFC 5280 has it; it is not"),
        (b"", "ca-crl must be one PEM X509 CRL; its PEM blocks are: none"),
    ):
        (pki / "ca-crl").unlink()
        (pki / "ca-crl").write_bytes(text)
        with pytest.raises(AuthorityError, match=fault):
            load_issuer(pki, "local-ca", now=datetime.now(UTC))
        assert fault in run("ca", "enable-device-ca", pki, "--ca-file", "local-ca").err


# The gateway's certificate


def test_rotation_keeps_hosts_and_the_old_pair(pki: Path) -> None:
    before = files(pki)
    assert run("ca", "rotate-tls", pki).code == 0
    after = files(pki)
    assert after["tls-crt.bak"] == before["tls-crt"]
    assert after["gateway/tls.key.bak"] == before["gateway/tls.key"]
    old, new = (x509.load_pem_x509_certificate(text["tls-crt"]) for text in (before, after))
    assert new.public_key() != old.public_key()
    assert new.subject == old.subject
    san = x509.SubjectAlternativeName
    assert new.extensions.get_extension_for_class(san).value == old.extensions.get_extension_for_class(san).value
    key = load_pem_private_key(after["gateway/tls.key"], None)
    assert key.public_key() == new.public_key()
    openssl_accepts(pki, "tls-crt")
    assert run("ca", "rotate-tls", pki, "--gateway-host", "new.example.com").code == 0
    assert load_issuer(pki, "local-ca", now=datetime.now(UTC)).hosts == ("new.example.com",)


def test_rotation_needs_a_host(tmp_path: Path) -> None:
    pki = make_pki(tmp_path / "pki", gateway_host=None)
    refused = run("ca", "rotate-tls", pki)
    assert refused.code == 2
    assert "has no tls-crt, so no host of the gateway is known\nhint: give --gateway-host\n" in refused.err
    assert run("ca", "rotate-tls", pki, "--gateway-host", "gw.example.com").code == 0
    openssl_accepts(pki, "tls-crt")


# Around them all


def test_an_encrypted_root_key_asks_for_its_passphrase(pki: Path, tmp_path: Path) -> None:
    key = load_pem_private_key((pki / "factory_ca.key").read_bytes(), None)
    (pki / "factory_ca.key").unlink()
    (pki / "factory_ca.key").write_bytes(key_pem(key, passphrase=b"open sesame"))  # type: ignore[arg-type]
    (tmp_path / "phrase").write_text("open sesame\n")
    (tmp_path / "wrong").write_text("sesame\n")
    arguments = ("ca", "disable-device-ca", pki, "--ca-file", "local-ca")
    assert "factory_ca.key cannot be decrypted" in run(*arguments, "--ca-passphrase-file", tmp_path / "wrong").err
    assert not (pki / "ca-crl").exists()
    done = run(*arguments, "--ca-passphrase-file", tmp_path / "phrase")
    assert done.code == 0
    assert "sesame" not in done.err


def test_keys_are_encrypted_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "phrase").write_text("correct horse battery\n")
    (tmp_path / "short").write_text("eleven char\n")
    pki = tmp_path / "pki"
    create = ("ca", "create", pki, "--factory", "acme", "--encrypt-keys")
    assert "CA keys are to be encrypted, and there is no passphrase" in run(*create).err
    refused = run(*create, "--ca-passphrase-file", tmp_path / "short")
    assert refused.code == 2
    assert "a passphrase for CA keys must have at least 12 characters; it has 11\nhint:" in refused.err
    assert run(*create[:-1], "--ca-passphrase-file", tmp_path / "phrase").code == 2
    assert not pki.exists()
    assert run(*create, "--ca-passphrase-file", tmp_path / "phrase").code == 0
    phrase = ("--ca-passphrase-file", tmp_path / "phrase")
    assert run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "site2.pem", *phrase).code == 0
    for file in ("factory_ca.key", "local-ca.key", "site2.key"):
        text = (pki / file).read_bytes()
        assert text.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        key = load_pem_private_key(text, b"correct horse battery")
        public = certificate((pki / file).with_suffix(".pem")).public_key()
        assert key.public_key() == public
    (tmp_path / "devices.csv").write_text("device_uuid\n5a1c6b9e-8f3d-4f0a-9a55-0c1d2e3f4a5b\n")
    issue = (
        "issue",
        "--manifest",
        tmp_path / "devices.csv",
        "--pki",
        pki,
        "--ca-name",
        "site2",
        "--out",
        tmp_path / "out",
    )
    assert "the CA's key site2.key is encrypted, and there is no passphrase" in run(*issue).err
    monkeypatch.setenv("BATCH_ISSUER_CA_PASSPHRASE", "correct horse battery")
    done = run(*issue)
    assert done.code == 0
    assert not any(
        b"correct horse" in path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "phrase"
    )
    assert run("ca", "rotate-tls", pki, "--gateway-host", "gw.example.com").code == 0


def test_one_at_a_time(pki: Path) -> None:
    with locked(PkiDirectory(pki)):
        refused = run("ca", "rotate-tls", pki)
    assert refused.code == 2
    assert refused.err == f"error: another command is changing {pki}\nhint: wait for it to end\n"
    assert run("ca", "rotate-tls", pki).code == 0


def test_a_missing_directory_is_said(tmp_path: Path) -> None:
    for arguments in (("show", "nowhere"), ("rotate-tls", "nowhere"), ("add-device-ca", "nowhere", "--local-ca")):
        refused = run("ca", *arguments)
        assert refused.code == 2
        assert "nowhere/factory_ca.pem cannot be read: No such file or directory" in refused.err


def test_a_full_disk_is_said_and_changes_nothing_in_force(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(pki)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        for arguments in (
            ("rotate-tls",),
            ("add-device-ca", "--online-ca"),
            ("disable-device-ca", "--ca-file", "local-ca"),
        ):
            failed = run("ca", arguments[0], pki, *arguments[1:])
            assert failed.code == 1
            assert "cannot be written: No space left on device" in failed.err
    in_force = {name: text for name, text in files(pki).items() if not name.startswith((".", "gateway/."))}
    assert in_force == before
    assert run("ca", "rotate-tls", pki).code == 0
    assert not list(pki.rglob("*.new"))


def full(fd: int) -> None:
    raise OSError(28, "No space left on device")


def test_show_in_all_its_forms(pki: Path) -> None:
    assert run("ca", "show", pki, "--just-root").out.encode() == (pki / "factory_ca.pem").read_bytes()
    assert run("ca", "show", pki, "--just-tls").out.encode() == (pki / "tls-crt").read_bytes()
    everything = run("ca", "show", pki).out
    for heading in (
        "## Factory root certificate\n",
        "## Server TLS certificate\n",
        "## Device authentication certificate(s)\n",
    ):
        assert heading in everything
    blocks = x509.load_pem_x509_certificates(everything.encode())
    assert [ca.serial_number for ca in blocks[2:]] == serials((pki / "ca-crt").read_bytes())
    pretty = run("ca", "show", pki, "--pretty").out
    root = certificate(pki / "factory_ca.pem")
    for line in (
        "Subject:      OU=acme,CN=Factory-CA",
        f"Serial:       {root.serial_number}",
        "basicConstraints (critical): CA:TRUE, pathlen:0",
        "keyUsage (critical): keyCertSign, cRLSign",
        "extendedKeyUsage: serverAuth, clientAuth",
        "subjectAltName: DNS:gw.example.com, DNS:os.example.com",
    ):
        assert f"{line}\n" in pretty
    assert "State:" not in pretty
    assert run("ca", "show").code == 2
    assert run("ca", "show", pki, "--factory", "acme").code == 2


# What a kill leaves


def _ceremonies(pki: PkiDirectory, now: datetime) -> None:
    backend = LocalBackend(pki, "acme")
    local = certificate(pki.path / "local-ca.pem").serial_number
    rotate_tls(pki, backend, now=now)
    if not pki.ca_certificate("site2").exists() and not pki.ca_key("site2").exists():
        add_local_ca(pki, backend, name="site2", common_name=None, now=now)
    add_online_ca(pki, backend, now=now)
    change_state(pki, backend, [local], DISABLED, now=now)
    change_state(pki, backend, [local], ENABLED, now=now)
    change_state(pki, backend, [local], DISABLED, now=now)


def _die_at(directory: Path, step: int) -> None:
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

    os.open, os.fsync, os.rename = dying(os.open), dying(os.fsync), dying(os.rename)
    os.write = dying(os.write, is_write=True)
    _ceremonies(PkiDirectory(directory), datetime.now(UTC))


def test_a_kill_at_any_step_leaves_a_directory_that_works(pki: Path, tmp_path: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        directory = tmp_path / str(step)
        shutil.copytree(pki, directory)
        child = get_context("fork").Process(target=_die_at, args=(directory, step))
        child.start()
        child.join(30)
        assert child.exitcode in {0, -signal.SIGKILL}
        killed = child.exitcode != 0
        _assert_works(directory)
        _ceremonies(PkiDirectory(directory), datetime.now(UTC))
        assert not list(directory.rglob("*.new"))
    assert step > 100


def _assert_works(directory: Path) -> None:
    """The gateway's certificate has its key, the lists can be read, nobody but the owner reads a key."""
    root = certificate(directory / "factory_ca.pem")
    for file, key in (("tls-crt", "tls.key"), ("online-crt", "online-ca.key")):
        keys = [directory / "gateway" / key, directory / "gateway" / f"{key}.bak"]
        public = [load_pem_private_key(path.read_bytes(), None).public_key() for path in keys if path.exists()]
        assert certificate(directory / file).public_key() in public
    assert len(read_device_cas((directory / "ca-crt").read_bytes(), "ca-crt", root, "root")) >= 2
    assert isinstance(read_revocations(directory / "ca-crl", root), Revocations)
    only_owner_reads(directory)


def test_a_rotation_stopped_twice_keeps_the_key_in_force(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (("rotate-tls",), ("add-device-ca", "--online-ca")):
        with monkeypatch.context() as patched:
            module = "rotate" if command[0] == "rotate-tls" else "device_cas"
            patched.setattr(f"batch_issuer.ceremony.{module}.replace_keeping_old", stopped)
            for _ in range(3):
                assert run("ca", command[0], pki, *command[1:]).code == 130
        _assert_works(pki)
        assert run("ca", command[0], pki, *command[1:]).code == 0
        _assert_works(pki)


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_last_ca_that_is_revoked_leaves_none(pki: Path) -> None:
    assert run("ca", "update", pki, pki / "local-ca.pem").code == 0
    assert run("ca", "revoke-device-ca", pki, "--ca-file", "local-ca").code == 0
    assert json.loads(run("ca", "show", pki, "--json").out)["device_cas"] == []


def test_files_beside_the_pki_change_nothing_and_damage_is_named(pki: Path) -> None:
    shutil.copy(pki / "factory_ca.pem", pki / "root.pem")
    (pki / "cas.pem").write_bytes((pki / "ca-crt").read_bytes())
    (pki / "notes.pem").write_text("nothing")
    (pki / "ca-crt").unlink()
    before = serials(run("ca", "show", pki, "--just-device-cas").out.encode())
    assert before == [certificate(pki / file).serial_number for file in ("online-crt", "local-ca.pem")]
    assert run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "site2.pem").code == 0
    assert len(serials(run("ca", "show", pki, "--just-device-cas").out.encode())) == 3
    (pki / "ca-crt").unlink()
    text = (pki / "local-ca.pem").read_text()
    (pki / "local-ca.pem").unlink()
    (pki / "local-ca.pem").write_text(text[:300] + "\n-----END CERTIFICATE-----\n")
    damaged = run("ca", "show", pki)
    assert damaged.code == 2
    assert "local-ca.pem must be a certificate as RFC 5280 has it; it is not" in damaged.err


def test_an_addition_that_was_stopped_is_finished_by_update(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("batch_issuer.ceremony.device_cas._add", stopped)
        assert run("ca", "add-device-ca", pki, "--local-ca", "--local-ca-filename", "site2.pem").code == 130
    assert len(serials((pki / "ca-crt").read_bytes())) == 2
    assert run("ca", "update", pki).code == 0
    assert len(serials((pki / "ca-crt").read_bytes())) == 3
    assert load_issuer(pki, "site2", now=datetime.now(UTC)).warnings == ()


def test_a_directory_that_others_can_change_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    refused = run("ca", "create", tmp_path, "--factory", "acme")
    assert refused.code == 2
    assert refused.err == (
        f"error: a PKI directory must be its owner's alone to change; {tmp_path} has mode 0777\n"
        f"hint: chmod 700 {tmp_path}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_name_cannot_command_a_terminal(pki: Path, tmp_path: Path) -> None:
    subject = x509.Name([*name("x\x1b[31mred\n", ("acme",))])
    key = load_pem_private_key((pki / "factory_ca.key").read_bytes(), None)
    root = certificate(pki / "factory_ca.pem")
    evil = make_certificate(subject, p256(), root.subject, key)  # type: ignore[arg-type]
    (tmp_path / "cas.pem").write_bytes(evil.public_bytes(Encoding.PEM))
    assert run("ca", "update", pki, tmp_path / "cas.pem").code == 0
    shown = run("ca", "show", pki, "--pretty").out
    assert "CN=x\\x1b[31mred\\n" in shown
    assert "\x1b" not in shown


def test_a_foreign_bundle_of_another_key_is_no_bundle(pki: Path) -> None:
    """A CA with the root's name that another key has signed."""
    key = p256()
    root = certificate(pki / "factory_ca.pem")
    forged = make_certificate(name("fio-x", ("acme",)), key, root.subject, p256(), window=(NOW, NOW.replace(year=2030)))
    with pytest.raises(AuthorityError, match="must be signed by the key of root"):
        read_device_cas(forged.public_bytes(Encoding.PEM), "ca-crt", root, "root")
