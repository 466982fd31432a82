"""pkilint over every kind of certificate: nothing is left unexplained, what is wrong is found; alone and in a run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from csrs import FORMS, csr_manifest, make_csr
from every_kind import OTHER, UUID, make_every_kind
from judges import csv_bytes, device_uuids, interrupted_run, issue, refusal, run, run_process
from mutants import MATRIX, MORE, OWN, OWN_FORMS, Authority, good_certificate, make_authority, mutant, signature_mutants
from pki import SERVERS, make_ca_dir, make_certificate, make_openssl_pki, name, p256

from batch_issuer.batch.first import first_certificate
from batch_issuer.linting import beside
from batch_issuer.linting.beside import JudgeBeside
from batch_issuer.linting.explained import EXPLAINED
from batch_issuer.linting.judge import judge, judge_name
from batch_issuer.output.record import read_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from judges import Ran
    from mutants import Fields

JUDGE = judge_name()
SKI_SHOULD = "pkix.certificate_skid_end_entity_missing"
NO_AKI = "pkix.authority_key_identifier_extension_absent"
LONG_SERIAL = "pkix.certificate_serial_number_out_of_range"


def wrong(der: bytes, issuer: bytes | None = None) -> set[str]:
    """The codes of what is left unexplained in a certificate."""
    return {finding.code for finding in judge(der, issuer) if finding.wrong}


def explained(der: bytes, issuer: bytes | None = None) -> set[str]:
    return {finding.code for finding in judge(der, issuer) if finding.explained}


def der_of(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_every_kind(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def good(authority: Authority) -> bytes:
    return good_certificate(authority)


# What we make


def test_every_kind_is_clean_and_one_thing_is_explained(made: Path) -> None:
    """The gateway's certificates have no key identifier, as fioctl's have none; nothing else needs explaining."""
    pki, bundles = made / "pki", made / "out" / "bundles"
    files = [*sorted(pki.glob("*.pem")), pki / "tls-crt", pki / "online-crt"]
    devices = [bundles / UUID / "client.pem", bundles / OTHER / "client.pem"]
    ran = run("lint", *files, *devices, "--json")
    assert (ran.code, ran.err) == (0, "")
    report = json.loads(ran.out)
    assert (report["judge"], report["wrong"]) == (JUDGE, 0)
    judged = {Path(one["name"]).name: one["findings"] for one in report["certificates"]}
    found = {file: {one["code"] for one in findings if one["explained"]} for file, findings in judged.items()}
    assert {file for file, codes in found.items() if codes} == {"tls-crt", "est.pem"}
    assert found["tls-crt"] == found["est.pem"] == {SKI_SHOULD}
    assert len(report["certificates"]) == 10
    severities = {one["severity"] for findings in judged.values() for one in findings if not one["explained"]}
    assert severities == {"INFO"}


def test_every_form_of_a_devices_own_subject_is_clean(work: Path) -> None:
    uuids = device_uuids(2 * len(FORMS))
    csrs = {}
    for place, (order, kind) in enumerate(FORMS):
        csrs[uuids[place]] = make_csr(uuids[place], order, kind)
        csrs[uuids[-1 - place]] = make_csr(uuids[-1 - place], (*order, "BC"), kind)
    plain, own = uuids[: len(FORMS)], uuids[len(FORMS) :]
    assert issue(csr_manifest(plain, csrs), "--out", "plain", "--lint").code == 0
    assert issue(csr_manifest(own, csrs), "--out", "production", "--production", "--lint").code == 0
    leaves = [Path("plain/bundles", one, "client.pem") for one in plain]
    leaves += [Path("production/bundles", one, "client.pem") for one in own]
    ran = run("lint", *leaves)
    assert (ran.code, ran.out) == (0, f"{len(leaves)} certificates judged by {JUDGE}: nothing is wrong\n")


def test_what_the_vendors_scripts_make_is_explained(tmp_path: Path) -> None:
    pki = make_openssl_pki(tmp_path / "pki", serial="0x" + "f" * 40)
    codes = {"pkix.basic_constraints_extension_not_critical", "pkix.key_usage_extension_not_critical"}
    root, ca = der_of(pki / "factory_ca.pem"), der_of(pki / "local-ca.pem")
    assert (wrong(root), explained(root)) == (set(), codes)
    assert (wrong(ca), explained(ca)) == (set(), {LONG_SERIAL})


def test_a_ca_without_a_key_identifier_explains_its_devices() -> None:
    """No identifier is computed for it, so a device has none to name; who does not know the CA cannot say so."""
    authority = make_authority(None)
    der = good_certificate(authority)
    assert (wrong(der, authority.ca_der), explained(der, authority.ca_der)) == (set(), {NO_AKI})
    assert wrong(der) == {NO_AKI}


def test_every_explanation_is_needed(made: Path, tmp_path: Path) -> None:
    """The table has no line that no certificate asks for."""
    scripted = make_openssl_pki(tmp_path / "pki", serial="0x" + "f" * 40)
    bare = make_authority(None)
    seen = explained(good_certificate(bare), bare.ca_der) | explained(der_of(made / "pki" / "tls-crt"))
    seen |= explained(der_of(scripted / "factory_ca.pem")) | explained(der_of(scripted / "local-ca.pem"))
    assert seen == {one.code for one in EXPLAINED}


# What is wrong


FOUND = {
    "no AKI": {NO_AKI},
    "AKI critical": {"pkix.authority_key_identifier_critical"},
    "SKI critical": {"pkix.certificate_skid_extension_critical"},
    "no SKI": {SKI_SHOULD},
    "KU not critical": {"pkix.key_usage_extension_not_critical"},
    "keyCertSign on leaf": {"pkix.ee_certificate_keycertsign_keyusage_set"},
    "leaf with CA:TRUE": {"pkix.ca_certificate_keycertsign_keyusage_not_set"},
    "GeneralizedTime before 2050": {"pkix.wrong_time_useful_type"},
    "serial negative": {LONG_SERIAL},
    "serial 0": {LONG_SERIAL},
    "serial of more than 20 octets": {LONG_SERIAL},
    "serial empty": {"certificate-unreadable"},
    "serial with a needless octet": {"certificate-unreadable"},
    "CN of 65": {"itu.invalid_asn1_syntax"},
    "v1 with extensions": {"pkix.certificate_version_is_not_v3"},
    "v2": {"pkix.certificate_version_is_not_v3"},
    "duplicate extension": {"pkix.duplicate_extension"},
    "no such day": {"pkix.invalid_time_syntax", "pkix.utctime_incorrect_syntax"},
    "subject unique identifier": {"pkix.subject_unique_id_present"},
    "no extensions": {SKI_SHOULD, NO_AKI},
    "outer algorithm another": {"pkix.certificate_signature_algorithm_mismatch"},
    "SAN": {"pkix.invalid_domain_name_syntax"},
    "IA5String": {"itu.invalid_asn1_syntax"},
    "octets that are no attribute": {"certificate-unreadable"},
}
"""Mutants of a device's certificate, to what is left unexplained; of the others RFC 5280 has nothing to say."""

CHANGES: dict[str, Callable[[Fields], Fields]] = {
    what: change for table in (MATRIX, MORE, OWN) for what, (_, change) in table.items()
}


@pytest.mark.parametrize("what", FOUND)
def test_a_broken_certificate_is_found(authority: Authority, good: bytes, what: str) -> None:
    assert wrong(good, authority.ca_der) == set()
    assert wrong(mutant(authority, good, CHANGES[what]), authority.ca_der) == FOUND[what]


@pytest.mark.parametrize("what", OWN_FORMS)
def test_a_form_that_devices_may_choose_is_not(authority: Authority, good: bytes, what: str) -> None:
    assert wrong(mutant(authority, good, OWN_FORMS[what]), authority.ca_der) == set()


@pytest.mark.parametrize("what", ["octets after the certificate", "cut off", "BER's indefinite length", "empty"])
def test_octets_that_are_no_certificate_are_found(authority: Authority, good: bytes, what: str) -> None:
    assert wrong(signature_mutants(authority, good)[what][1], authority.ca_der) == {"certificate-unreadable"}


def test_an_explanation_holds_for_nothing_else(tmp_path: Path) -> None:
    """A gateway's certificate with one thing more is none, nor is a scripted root with one thing less."""
    key = p256()
    subject, bits = name("gw.example.com", ("acme",)), ("digital_signature",)
    fit: dict[str, Any] = {"constraints": None, "usage": bits, "purposes": SERVERS, "hosts": ("gw.example.com",)}
    above = [(x509.AuthorityKeyIdentifier(b"\1" * 20, None, None), False)]
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")

    def made(**changes: Any) -> bytes:
        return make_certificate(subject, key, subject, key, **fit | changes).public_bytes(Encoding.DER)

    assert wrong(made(extensions=above)) == set()
    assert wrong(made(extensions=[*above, (unknown, False)])) == {SKI_SHOULD}
    assert wrong(made(extensions=above, usage=("digital_signature", "key_agreement"))) == {SKI_SHOULD}
    assert wrong(made(extensions=above, hosts=())) == {SKI_SHOULD}
    root = make_openssl_pki(tmp_path / "pki") / "factory_ca.pem"
    loose = make_certificate(subject, key, subject, key, constraints=None, usage=None)
    assert wrong(der_of(root)) == set()
    assert wrong(loose.public_bytes(Encoding.DER)) >= {SKI_SHOULD}


# The command


def test_findings_end_with_4_and_are_named(tmp_path: Path, authority: Authority, good: bytes) -> None:
    (tmp_path / "good.der").write_bytes(good)
    (tmp_path / "bad.der").write_bytes(mutant(authority, good, CHANGES["KU not critical"]))
    ran = run("lint", tmp_path / "good.der", tmp_path / "bad.der")
    where = "certificate.tbsCertificate.extensions.0.extnValue.keyUsage"
    assert ran.err == f"{tmp_path}/bad.der: WARNING pkix.key_usage_extension_not_critical at {where}\n"
    assert (ran.code, ran.out) == (4, f"2 certificates judged by {JUDGE}: 1 finding\n")
    quiet = run("lint", tmp_path / "good.der", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_what_is_explained_is_shown_when_asked(made: Path) -> None:
    tls = made / "pki" / "tls-crt"
    ran = run("lint", tls)
    told = f"1 certificate judged by {JUDGE}: nothing is wrong; 1 finding explained by fixed profiles, -v shows why\n"
    assert (ran.code, ran.out, ran.err) == (0, told, "")
    why = (
        f"{tls}: WARNING {SKI_SHOULD} at certificate "
        "(explained: the gateway's certificate has no subjectKeyIdentifier; RFC 5280 section 4.2.1.2 says SHOULD; "
        "fioctl x509/golang.go, genTlsCert)\n"
    )
    assert run("lint", tls, "-v").err == why


def test_a_ca_beside_its_device_explains_it(tmp_path: Path) -> None:
    bare = make_authority(None)
    (tmp_path / "leaf").write_bytes(good_certificate(bare))
    (tmp_path / "ca").write_bytes(bare.ca_der)
    assert run("lint", tmp_path / "leaf").code == 4
    ran = run("lint", tmp_path / "leaf", tmp_path / "ca")
    assert [line.split(": ")[0] for line in ran.err.splitlines()] == [f"{tmp_path}/ca"]  # a CA must have one


def test_a_file_of_many_certificates_is_counted(tmp_path: Path, made: Path, authority: Authority, good: bytes) -> None:
    bad = x509.load_der_x509_certificate(mutant(authority, good, CHANGES["no AKI"])).public_bytes(Encoding.PEM)
    (tmp_path / "all").write_bytes((made / "pki" / "local-ca.pem").read_bytes() + bad)
    ran = run("lint", tmp_path / "all")
    assert (ran.code, ran.err) == (4, f"{tmp_path}/all, certificate 2: ERROR {NO_AKI} at certificate\n")


def test_files_without_certificates_are_refused(tmp_path: Path, made: Path) -> None:
    key = made / "pki" / "local-ca.key"
    hint = "expected PEM, or one certificate as DER"
    refusal(run("lint", key), 2, f"{key} holds no certificate", hint=hint)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"-----BEGIN CERTIFICATE-----\nMIIBx\n-----END CERTIFICATE-----\n")
    ran = run("lint", damaged)
    assert ran.code == 2
    assert ran.err.startswith(f"error: {damaged} holds a certificate whose base64 is damaged: ")
    (tmp_path / "huge").write_bytes(bytes((16 << 20) + 1))
    ran = run("lint", tmp_path / "huge")
    assert (ran.code, ran.err) == (2, f"error: {tmp_path}/huge has more than 16 MiB: it is no file of certificates\n")
    ran = run("lint", tmp_path / "none")
    assert (ran.code, ran.err) == (1, f"error: No such file or directory: {tmp_path}/none\n")


def without_pkilint(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    for module in ("batch_issuer.extras.find_spec", "batch_issuer.linting.beside.find_spec"):
        monkeypatch.setattr(module, lambda name: None if name == "pkilint" else find(name))


def test_without_pkilint_the_command_says_so(monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    without_pkilint(monkeypatch)
    hint = "pip install 'batch-issuer[lint]'"
    refusal(run("lint", made / "pki" / "tls-crt"), 2, "this command needs pkilint, which is not installed", hint=hint)


# A run's first certificate


def test_a_run_says_who_judged_its_first_certificate(work: Path) -> None:
    ran = issue(csv_bytes([UUID]), "--lint", "-v")
    assert ran.code == 0
    assert f"  lint      {JUDGE} finds no error in the first certificate\n" in ran.out
    assert json.loads(Path("issued/summary.json").read_bytes())["linted_by"] == JUDGE


def test_a_run_that_is_not_judged_says_so(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "  lint      not asked for\n" in issue(csv_bytes([UUID]), "--no-lint", "-v", "--out", "one").out
    without_pkilint(monkeypatch)
    ran = issue(csv_bytes([UUID]), "--lint", "-v")
    assert "  lint      skipped: pkilint is not installed (pip install 'batch-issuer[lint]')\n" in ran.out
    assert json.loads(Path("issued/summary.json").read_bytes())["linted_by"] is None


def with_a_bad_address(folder: Path) -> Path:
    """A PKI whose CA has something in its subject that is no mail address, though it should be; gateways take it."""
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "fio-test"),
            x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "acme"),
            x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, "nobody"),
        ]
    )
    return make_ca_dir(folder, ca_subject=subject)


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["run", "dry-run"])
def test_an_error_in_the_first_certificate_refuses_the_run(work: Path, options: tuple[str, ...]) -> None:
    asked = ("--pki", with_a_bad_address(work / "bad"), "--gateway", "gw.example.com")
    ran = issue(csv_bytes([UUID]), *asked, "--lint", *options)
    assert (ran.code, ran.out) == (2, "")
    error, hint = ran.err.splitlines()[-2:]
    told = "ERROR pkix.invalid_email_address_syntax at certificate.tbsCertificate.issuer."
    assert error.startswith(f"error: the run's first certificate would break a rule, {JUDGE} says: {told}")
    assert hint == "hint: look at local-ca.pem with `batch-issuer lint`; --no-lint issues all the same"
    assert not Path("issued").exists()
    assert issue(csv_bytes([UUID]), *asked, "--no-lint", *options).code == 0


def test_a_ca_without_a_key_identifier_can_issue(work: Path) -> None:
    pki = make_ca_dir(work / "bare", key_identifier=None)
    ran = issue(csv_bytes([UUID]), "--pki", pki, "--gateway", "gw.example.com", "--lint", "-v")
    assert ran.code == 0
    assert f"  lint      {JUDGE} finds no error" in ran.out


def test_a_resume_is_judged_again(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = csv_bytes(device_uuids(9))
    interrupted_run(monkeypatch, manifest)
    assert issue(manifest, "--resume", "--lint").code == 0
    assert json.loads(Path("issued/summary.json").read_bytes())["linted_by"] == JUDGE


def test_a_judge_that_does_not_answer_refuses_the_run(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_CODE", "raise SystemExit(1)")
    error = "pkilint gave no answer about the run's first certificate"
    hint = "`batch-issuer lint` on any certificate shows whether it works; --no-lint issues without it"
    refusal(issue(csv_bytes([UUID]), "--lint"), 2, error, hint=hint)
    monkeypatch.setattr(beside, "_CODE", "import time; time.sleep(600)")
    monkeypatch.setattr(beside, "_SECONDS", 0.1)
    refusal(issue(csv_bytes([UUID]), "--lint"), 2, error, hint=hint)


def test_the_judge_ends_with_a_run_that_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    enter = JudgeBeside.__enter__

    def seen(judge: JudgeBeside) -> JudgeBeside:
        enter(judge)
        started.append(judge._process)
        return judge

    monkeypatch.setattr(JudgeBeside, "__enter__", seen)
    assert issue(csv_bytes(["no uuid"]), "--lint").code == 3
    [process] = started
    assert process.returncode is not None


def test_the_judge_does_not_outlive_a_run_that_is_killed() -> None:
    code = """
from batch_issuer.linting.beside import JudgeBeside
with JudgeBeside() as judge:
    print(judge._process.pid, flush=True)
    input()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as run_of_it:
        assert run_of_it.stdout is not None
        judge_of_it = int(run_of_it.stdout.readline())
        run_of_it.kill()
    deadline = time.monotonic() + 60
    while is_running(judge_of_it) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(judge_of_it)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_judge_gets_no_secret_and_no_descriptor(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    """It is asked for its environment, arguments and descriptors instead of its judgement."""
    for variable in ("BATCH_ISSUER_HSM_PIN", "BATCH_ISSUER_CA_PASSPHRASE", "BATCH_ISSUER_TOKEN"):
        monkeypatch.setenv(variable, "secret-4711")
    held = os.open(os.devnull, os.O_RDONLY)
    code = (
        "import json, os, sys; sys.stdin.read(); told = str(dict(os.environ)) + str(sys.argv);"
        "fds = sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}'));"
        "finding = dict(severity='INFO', code=told, where=str(fds), message='', explained=None);"
        "print(json.dumps({'judge': 'none', 'findings': [finding]}))"
    )
    monkeypatch.setattr(beside, "_CODE", code)
    with JudgeBeside() as asked:
        [finding] = asked.ask([b""], b"").findings
    os.close(held)
    assert "secret-4711" not in finding.code
    assert finding.where == "[0, 1, 2]"


def first_of(out: Path, spill: Path | None = None) -> x509.Certificate:
    return x509.load_der_x509_certificate(first_certificate(read_record(out / "run.json"), spill))


def test_the_twin_is_the_first_certificate_but_for_key_serial_and_signature(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the CA's key has not signed it."""
    uuids = device_uuids(4)
    csrs = {uuids[0]: make_csr(uuids[0], *FORMS[1])}
    for manifest, out in ((csv_bytes(uuids), "made"), (csr_manifest(uuids, csrs), "brought")):
        interrupted_run(monkeypatch, manifest)
        twin = first_of(Path("issued"), Path("issued/.run/plan.arrow"))
        issued = x509.load_pem_x509_certificate(Path("issued/bundles", uuids[0], "client.pem").read_bytes())
        assert (twin.subject, twin.issuer) == (issued.subject, issued.issuer)
        assert (twin.not_valid_before_utc, twin.not_valid_after_utc) == (
            issued.not_valid_before_utc,
            issued.not_valid_after_utc,
        )
        same_key = twin.public_key() == issued.public_key()
        assert same_key == (out == "brought")
        assert [one.oid for one in twin.extensions] == [one.oid for one in issued.extensions]
        assert twin.serial_number != issued.serial_number
        ca = x509.load_pem_x509_certificate((work / "pki" / "local-ca.pem").read_bytes())
        issued.verify_directly_issued_by(ca)
        with pytest.raises(InvalidSignature):
            twin.verify_directly_issued_by(ca)
        Path("issued").rename(out)


def test_the_program_itself_judges_unless_told_otherwise(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(out: str) -> object:
        Path("one.csv").write_bytes(csv_bytes([UUID]))
        arguments = ("--manifest", "one.csv", "--hardware-id", "x", "--days", "30", "--out", out)
        ran: Ran = run_process("issue", *arguments)
        assert (ran.code, ran.err) == (0, "")
        return json.loads(Path(out, "summary.json").read_bytes())["linted_by"]

    assert judged("told") is None  # by conftest.py
    monkeypatch.delenv("BATCH_ISSUER_LINT")
    assert judged("untold") == JUDGE


def test_pkilint_is_in_no_process_that_holds_a_key() -> None:
    """Neither the parent nor the fork server that its workers come from imports it."""
    code = "import batch_issuer.batch.run, batch_issuer.batch.part, sys; print('pkilint' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
