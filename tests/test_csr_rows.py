"""Rows that bring a CSR: what is signed, what is rejected and by which sentence, and what a device then gets."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from csrs import FORMS, PRINTABLE, asking_csr, csr_manifest, forms_of, make_csr, spki_of, subject_name
from hypothesis import given
from hypothesis import strategies as st
from judges import (
    FORMATS,
    SMALL,
    contents,
    csv_bytes,
    csv_rows,
    device_bundle,
    device_uuids,
    interrupted_run,
    issue,
    openssl_accepts,
    parquet_bytes,
    refusal,
    run,
    stored_bundles,
)
from pki import make_ca_dir, p256

from batch_issuer.batch.csrs import CheckedPiece, CsrPiece, CsrRules, check_pieces, cut_pieces
from batch_issuer.errors import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

UUIDS = device_uuids(8)
ONE, TWO, THREE = UUIDS[:3]
MEND = "mend them, or issue the others with --skip-rejects"
NO_KEY = ["client.pem", "root.crt", "sota.toml"]
WITH_KEY = [NO_KEY[0], "pkey.pem", *NO_KEY[1:]]
MODULE = "/usr/lib/libckteec.so.0"
DEVICE_HSM = ("--device-hsm", "--device-hsm-module", MODULE)

pytestmark = pytest.mark.usefixtures("work")


def spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def leaf_of(files: dict[str, bytes]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files["client.pem"])


def verified(out: str = "issued") -> None:
    ran = run("verify", out)
    assert (ran.code, ran.err) == (0, "")
    assert "nothing is wrong" in ran.out


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("stored_as", FORMATS)
def test_a_mixed_manifest_gives_keys_to_those_who_bring_none(stored_as: str, kind: str, factory_pki: Path) -> None:
    csrs = forms_of(UUIDS, 2)
    options = ("--format", stored_as, "--manifest-format", kind)
    ran = issue(csr_manifest(UUIDS, csrs), *options)
    assert (ran.code, ran.err) == (0, "")
    assert "  keys      4 made here, 4 kept by their devices\n" in ran.out
    bundles = stored_bundles(Path("issued"))
    assert list(bundles) == UUIDS if stored_as != "dir" else sorted(bundles) == UUIDS
    for uuid, files in bundles.items():
        assert sorted(files) == (NO_KEY if uuid in csrs else WITH_KEY)
        leaf = leaf_of(files)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate((factory_pki / "local-ca.pem").read_bytes()))
        if uuid in csrs:
            assert spki(leaf) == spki_of(csrs[uuid])
            assert leaf.subject.public_bytes() == x509.load_pem_x509_csr(csrs[uuid]).subject.public_bytes()
        else:
            device_bundle(files, uuid, factory_pki)
    record, summary = (json.loads(Path("issued", name).read_text()) for name in ("run.json", "summary.json"))
    assert (record["csr_rows"], summary["csr_rows"], record["device_hsm_module"]) == (4, 4, None)
    verified()
    assert run("extract", "issued", "--all", "--to", "devices").code == 0
    extracted = {
        path.name: {file.name: file.read_bytes() for file in path.iterdir()} for path in Path("devices").iterdir()
    }
    assert extracted == bundles


@pytest.mark.parametrize("partial", [False, True], ids=["below-the-root", "local-ca-as-the-only-anchor"])
@pytest.mark.parametrize("place", range(len(FORMS)))
def test_openssl_accepts_every_form_of_subject(place: int, partial: bool, factory_pki: Path) -> None:
    assert issue(csr_manifest([ONE], {ONE: make_csr(ONE, *FORMS[place])})).code == 0
    assert openssl_accepts(Path("issued/bundles", ONE, "client.pem"), factory_pki, partial=partial)


def test_a_parquet_part_has_null_where_the_device_keeps_its_key() -> None:
    assert issue(csr_manifest(UUIDS[:3], forms_of([TWO])), "--format", "parquet").code == 0
    keys = pq.read_table("issued/bundles/part-00000.parquet")["private_key"]
    assert keys.type == pa.binary()
    assert [key is None for key in keys.to_pylist()] == [False, True, False]


def test_nothing_of_the_csrs_extensions_is_copied() -> None:
    """Those that a device gets anyway may be asked for, and it gets them once, with all others."""
    assert issue(csr_manifest([ONE, TWO, THREE], {ONE: asking_csr(ONE), TWO: make_csr(TWO)})).code == 0
    asked, silent, made = (leaf_of(files) for _, files in sorted(stored_bundles(Path("issued")).items()))
    identifiers = [[(one.oid.dotted_string, one.critical) for one in leaf.extensions] for leaf in (asked, silent, made)]
    assert identifiers[0] == identifiers[1] == identifiers[2]
    assert identifiers[0] == [("2.5.29.15", True), ("2.5.29.37", True), ("2.5.29.14", False), ("2.5.29.35", False)]


def test_parquet_manifests_bring_csrs_too() -> None:
    csrs = forms_of(UUIDS, 2)
    column = pa.array([csrs[uuid].decode() if uuid in csrs else None for uuid in UUIDS])
    assert issue(parquet_bytes({"id": pa.array(UUIDS), "Csr": column}), name="devices.parquet").code == 0
    rows = pq.read_table("issued/manifest.parquet").to_pylist()
    assert [row["key_origin"] for row in rows] == ["csr", "made"] * 4
    assert "Csr" not in rows[0]
    verified()


# The output manifest


def test_the_manifest_says_where_keys_are_from_only_when_some_are_brought() -> None:
    assert issue(csr_manifest([ONE, TWO], forms_of([TWO])), "--with-certificates").code == 0
    rows = csv_rows(Path("issued/manifest.csv"))
    assert list(rows[0])[7:] == ["bundle", "certificate_pem", "key_origin", "name"]
    assert [row["key_origin"] for row in rows] == ["made", "csr"]
    assert rows[1]["public_key_sha256"] == sha256_of(spki(leaf_of(stored_bundles(Path("issued"))[TWO])))
    assert issue(csr_manifest([ONE, TWO], {}), "--out", "none").code == 0
    assert list(csv_rows(Path("none/manifest.csv"))[0])[7:] == ["bundle", "name"]
    verified("none")


def sha256_of(octets: bytes) -> str:
    import hashlib

    return hashlib.sha256(octets).hexdigest()


def test_an_inputs_own_column_of_that_name_is_renamed() -> None:
    ran = issue(csv_bytes([f"{ONE},moon"], "device_uuid,key_origin"))
    renamed = "the manifest's column 'key_origin' is called 'input_key_origin' in the output, which has a 'key_origin'"
    assert (ran.code, ran.err) == (0, f"warning: {renamed} of its own\n")
    verified()


# Rejected


def other_signature() -> bytes:
    first, second = (x509.load_pem_x509_csr(make_csr(ONE)) for _ in range(2))
    der = first.public_bytes(Encoding.DER).replace(first.signature, second.signature)
    if len(first.signature) != len(second.signature):
        return other_signature()
    return x509.load_der_x509_csr(der).public_bytes(Encoding.PEM)


SAN = x509.SubjectAlternativeName([x509.DNSName("example.com")])
ATTRIBUTES = "may have CN, OU and businessCategory=production in its subject, as UTF8String or PrintableString; it has "
WRONG: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "no PEM": (lambda: b"pem", "csr-unreadable", "must be one PEM CERTIFICATE REQUEST; its PEM blocks are: none"),
    "blanks": (lambda: b"  ", "csr-unreadable", "must be one PEM CERTIFICATE REQUEST; its PEM blocks are: none"),
    "too long": (
        lambda: make_csr(ONE) + b" " * 16_384,
        "csr-unreadable",
        "must have at most 16384 octets; it has more",
    ),
    "a certificate": (
        lambda: make_csr(ONE).replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"),
        "csr-unreadable",
        "must be one PEM CERTIFICATE REQUEST; its PEM blocks are: CERTIFICATE",
    ),
    "cut off": (
        lambda: make_csr(ONE)[:200] + b"\n-----END CERTIFICATE REQUEST-----\n",
        "csr-unreadable",
        "must be a request as RFC 2986 has it; it is not",
    ),
    "another's signature": (
        other_signature,
        "csr-signature",
        "must be signed by its own key; its signature does not verify",
    ),
    "P-384": (
        lambda: make_csr(ONE, key=ec.generate_private_key(ec.SECP384R1())),
        "csr-key",
        "must be for a P-256 key; it is for secp384r1",
    ),
    "another factory": (
        lambda: make_csr(ONE, factory="acne"),
        "csr-factory",
        "must have the factory as its one organizational unit (OU), 'acme'; it has 'acne'",
    ),
    "no UUID": (
        lambda: make_csr("device-1"),
        "csr-uuid",
        "must have a UUID as its one common name (CN); it has 'device-1'",
    ),
    "another device": (
        lambda: make_csr(TWO),
        "csr-uuid",
        f"must have the row's UUID as its common name (CN), {ONE}; it has {TWO}",
    ),
    "upper case": (
        lambda: make_csr(ONE.upper()),
        "csr-uuid-case",
        f"must have the UUID in lower case as its common name (CN), {ONE}; it has {ONE.upper()}; the device has to "
        "make its CSR anew, since gateways tell the cases apart",
    ),
    "production": (
        lambda: make_csr(ONE, ("CN", "OU", "BC")),
        "csr-production",
        "must not have businessCategory=production in its subject, as --no-production has it; the CA cannot change a "
        "subject",
    ),
    "two factories": (
        lambda: make_csr(ONE, ("CN", "OU", "OU")),
        "csr-factory",
        "must have the factory as its one organizational unit (OU), 'acme'; it has 'acme', 'acme'",
    ),
    "another attribute's value": (
        lambda: make_csr(ONE, ("CN", "OU", "BC", "BC")),
        "csr-attribute",
        "must have each attribute of its subject once, on its own",
    ),
    "an extension": (
        lambda: make_csr(ONE, extensions=(SAN,)),
        "csr-extension",
        "may ask for keyUsage digitalSignature and extendedKeyUsage clientAuth only; it asks for 2.5.29.17 otherwise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_csr_is_a_finding_and_nothing_is_made(name: str) -> None:
    make, code, fault = WRONG[name]
    ran = issue(csr_manifest([ONE, TWO], {ONE: make(), TWO: make_csr(TWO)}))
    finding = f"{code}: row 1, column 'csr': the CSR {fault}"
    refusal(ran, 3, "1 of the manifest's 2 rows are rejected; nothing was issued", hint=MEND, findings=[finding])
    dry = issue(csr_manifest([ONE, TWO], {ONE: make(), TWO: make_csr(TWO)}), "--dry-run")
    assert (dry.code, dry.err) == (3, ran.err)


def test_with_skip_rejects_the_good_rows_are_issued_and_the_others_told() -> None:
    csrs = forms_of(UUIDS[::2]) | {ONE: make_csr(ONE.upper()), UUIDS[4]: b"none"}
    ran = issue(csr_manifest(UUIDS, csrs), "--skip-rejects", "--format", "tar")
    assert ran.code == 3
    assert "  keys      4 made here, 2 kept by their devices\n" in ran.out
    rows = csv_rows(Path("issued/rejects.csv"))
    assert [(row["row"], row["column"], row["code"]) for row in rows] == [
        ("1", "csr", "csr-uuid-case"),
        ("5", "csr", "csr-unreadable"),
    ]
    assert rows[0]["value"].startswith(r"-----BEGIN CERTIFICATE REQUEST-----\n")
    assert rows[1]["value"] == "none"
    issued = [row["device_uuid"] for row in csv_rows(Path("issued/manifest.csv"))]
    assert issued == [uuid for uuid in UUIDS if uuid not in (ONE, UUIDS[4])]
    assert json.loads(Path("issued/run.json").read_text())["csr_rows"] == 2
    verified()


@pytest.mark.parametrize(
    ("option", "row", "order", "asked"),
    [
        ("--production", "", ("CN", "OU"), "must have businessCategory=production in its subject, as --production"),
        ("--production", "true", ("CN", "OU"), "must have businessCategory=production in its subject, as the row"),
        ("--no-production", "1", ("OU", "CN"), "must have businessCategory=production in its subject, as the row"),
        (
            "--production",
            "0",
            ("CN", "BC", "OU"),
            "must not have businessCategory=production in its subject, as the row",
        ),
        ("--production", "", ("CN", "OU", "BC"), None),
        ("--no-production", "true", ("BC", "OU", "CN"), None),
        ("--production", "false", ("CN", "OU"), None),
    ],
)
def test_production_is_the_factorys_to_say_and_not_the_devices(
    option: str, row: str, order: tuple[str, ...], asked: str | None
) -> None:
    text = make_csr(ONE, order, PRINTABLE).decode()
    ran = issue(csv_bytes([f'{ONE},{row},"{text}"'], "device_uuid,production,csr"), option)
    if asked is None:
        assert (ran.code, ran.err) == (0, "")
        assert leaf_of(stored_bundles(Path("issued"))[ONE]).subject == subject_name(ONE, order, PRINTABLE)
        verified()
    else:
        finding = f"csr-production: row 1, column 'csr': the CSR {asked} has it; the CA cannot change a subject"
        refusal(ran, 3, "all 1 rows of the manifest are rejected", findings=[finding])


def test_a_key_that_comes_again_is_rejected_by_the_first_row_that_has_it() -> None:
    key = p256()
    csrs = {uuid: make_csr(uuid, key=key) for uuid in (TWO, UUIDS[4], UUIDS[7])} | {THREE: make_csr(THREE)}
    digest = sha256_of(spki_of(csrs[TWO]))[:32]
    ran = issue(csr_manifest(UUIDS, csrs))
    findings = [
        f"csr-duplicate-key: row {row}, column 'csr': its public key (SHA-256 {digest}…) is that of row 2 already"
        for row in (5, 8)
    ]
    refusal(ran, 3, "2 of the manifest's 8 rows are rejected; nothing was issued", hint=MEND, findings=findings)
    assert issue(csr_manifest(UUIDS, csrs), "--skip-rejects").code == 3
    assert json.loads(Path("issued/run.json").read_text())["csr_rows"] == 2
    assert sorted(stored_bundles(Path("issued"))) == sorted(set(UUIDS) - {UUIDS[4], UUIDS[7]})


def test_a_line_that_is_there_twice_is_found_by_both_its_uuid_and_its_key() -> None:
    ran = issue(csr_manifest([ONE, ONE], {ONE: make_csr(ONE)}), "--skip-rejects")
    assert ran.code == 3
    codes = [(row["row"], row["code"]) for row in csv_rows(Path("issued/rejects.csv"))]
    assert codes == [("2", "uuid-duplicate"), ("2", "csr-duplicate-key")]
    assert json.loads(Path("issued/run.json").read_text())["csr_rows"] == 1


def test_keys_are_compared_across_all_pieces_of_a_long_manifest() -> None:
    """Rows 1 and 2,101 are checked by different workers."""
    uuids, key = device_uuids(2101), p256()
    csrs = forms_of(uuids[1:-1], 3) | {uuid: make_csr(uuid, key=key) for uuid in (uuids[0], uuids[-1])}
    ran = issue(csr_manifest(uuids, csrs), "--dry-run", "--skip-rejects")
    assert ran.code == 3
    assert ran.err.startswith("csr-duplicate-key: row 2101, column 'csr': its public key (SHA-256 ")
    assert ran.err.count("\n") == 1
    assert "  keys      1,399 made here, 701 kept by their devices\n" in ran.out


def test_a_dry_run_writes_nothing(work: Path) -> None:
    before = contents(work)
    ran = issue(csr_manifest(UUIDS, forms_of(UUIDS)), "--dry-run", "--json")
    Path("devices.csv").unlink()
    assert contents(work) == before
    assert (ran.code, json.loads(ran.out)["csr_rows"]) == (0, 8)


@given(st.text(max_size=300), st.binary(max_size=200))
def test_no_text_brings_the_check_down(text: str, octets: bytes) -> None:
    good = make_csr(ONE).decode()
    spoiled = good[:60] + octets.hex() + good[60:]
    rows = pa.table({"row": [1, 2, 3], "device_uuid": [ONE, TWO, ONE], "production": pa.nulls(3, pa.bool_()),
                     "csr": pa.array([_encodable(text), spoiled, good])})  # fmt: skip
    [piece] = cut_pieces(rows)
    checked = CsrRules("acme", production=False, column="csr").check(piece)
    assert [(rejection.row, rejection.code) for rejection in checked.rejections if rejection.row != 2] == [
        (1, "csr-unreadable")
    ]
    assert checked.rows == (3).to_bytes(8, "little")
    assert all(len(rejection.message) < 400 for rejection in checked.rejections)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


# Resume


def test_a_stopped_run_goes_on_and_issues_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = csr_manifest(UUIDS, forms_of(UUIDS, 2))
    interrupted_run(monkeypatch, manifest, "--format", "tar")
    before = {path.name: path.read_bytes() for path in Path("issued/bundles").iterdir()}
    unfinished = run("verify", "issued")
    assert unfinished.code == 4
    assert unfinished.err.count("[") == 1
    assert "[run-unfinished]" in unfinished.err
    assert run("extract", "issued", ONE, "--to", "early").code == 0
    assert sorted(path.name for path in Path("early", ONE).iterdir()) == NO_KEY
    assert issue(manifest, "--format", "tar", "--resume").code == 0
    assert {name: Path("issued/bundles", name).read_bytes() for name in before} == before
    verified()


def test_a_resume_with_another_csr_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = csr_manifest(UUIDS, forms_of(UUIDS, 2))
    interrupted_run(monkeypatch, manifest)
    ran = issue(csr_manifest(UUIDS, forms_of(UUIDS, 2)), "--resume")
    assert ran.code == 2
    assert ran.err.startswith("error: the manifest is not the one that the run began with: SHA-256 ")


def test_a_plan_that_is_stopped_while_csrs_are_checked_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("batch_issuer.batch.rows.check_pieces", stopped)
    refusal(issue(csr_manifest(UUIDS, forms_of(UUIDS))), 130, "interrupted")


def dying(_piece: CsrPiece) -> CheckedPiece:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class DyingRules(CsrRules):
    """Rules whose workers die of every piece."""

    __slots__ = ()

    def __call__(self) -> Callable[[CsrPiece], CheckedPiece]:
        return dying


def test_workers_that_die_of_a_csr_end_the_plan_by_name() -> None:
    rules = DyingRules("acme", production=False, column="csr")
    told: list[str] = []
    pieces = [CsrPiece("the CSRs of rows 1 to 3", b"")]
    with pytest.raises(RunFailedError, match=r"^a worker ended \(exit code -9\) at the CSRs of rows 1 to 3, the third"):
        list(check_pieces(pieces, rules, workers=1, notify=told.append))
    assert told == ["a worker ended (exit code -9) at the CSRs of rows 1 to 3; it is replaced"] * 2


# --device-hsm


def test_sota_toml_for_a_device_hsm() -> None:
    ran = issue(csr_manifest([ONE], forms_of([ONE])), *DEVICE_HSM, "--tag", "main")
    assert (ran.code, ran.err) == (0, "")
    text = Path("issued/bundles", ONE, "sota.toml").read_text()
    parsed = tomllib.loads(text)
    gateway = "https://gw.example.com:8443"
    assert parsed["tls"] == {
        "server": gateway, "ca_source": "file", "pkey_source": "pkcs11", "cert_source": "pkcs11"
    }  # fmt: skip
    assert parsed["import"] == {"tls_cacert_path": "/var/sota/root.crt"}
    assert parsed["p11"] == {
        "module": MODULE, "label": "aktualizr", "tls_pkey_id": "01", "tls_clientcert_id": "03"
    }  # fmt: skip
    assert parsed["uptane"] == {"repo_server": f"{gateway}/repo", "key_source": "file"}
    assert text.count("# tls_pkey_path is not set\n") == text.count("# tls_clientcert_path is not set\n") == 1
    assert "pass" not in text
    assert all(isinstance(value, str) for section in parsed.values() for value in section.values())
    assert json.loads(Path("issued/run.json").read_text())["device_hsm_module"] == MODULE
    verified()


def test_without_the_option_a_devices_key_is_a_file_of_its_own() -> None:
    assert issue(csr_manifest([ONE], forms_of([ONE]))).code == 0
    parsed = tomllib.loads(Path("issued/bundles", ONE, "sota.toml").read_text())
    assert parsed["import"]["tls_pkey_path"] == "/var/sota/pkey.pem"
    assert "p11" not in parsed


EVERY_ROW = "--device-hsm is for devices that keep their keys: every row must bring a CSR; "
NO_HSM = "a key that is made here is in no device's HSM: issue such devices by a run without --device-hsm"
NEED = "--device-hsm and --device-hsm-module need each other, and only one of them is given"
EXAMPLE = "--device-hsm-module is the PKCS#11 module's path on the device, such as /usr/lib/libckteec.so.0"


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize(
    ("manifest", "options", "error", "hint"),
    [
        (lambda: csr_manifest(UUIDS, forms_of(UUIDS, 2)), DEVICE_HSM, f"{EVERY_ROW}4 of 8 rows bring none", NO_HSM),
        (lambda: csv_bytes(UUIDS), DEVICE_HSM, f"{EVERY_ROW}8 of 8 rows bring none", NO_HSM),
        (lambda: csv_bytes(UUIDS), DEVICE_HSM[:1], NEED, EXAMPLE),
        (lambda: csv_bytes(UUIDS), DEVICE_HSM[1:], NEED, EXAMPLE),
        (
            lambda: csv_bytes(UUIDS),
            ("--device-hsm", "--device-hsm-module", "libckteec.so"),
            "--device-hsm-module: expected the module's absolute path on the device, got 'libckteec.so'",
            None,
        ),
        (
            lambda: csv_bytes(UUIDS),
            ("--device-hsm", "--device-hsm-module", '/a\n[p11]\npass = "1"'),
            "--device-hsm-module: expected text of at most 1024 octets without control characters, got "
            """'/a\\n[p11]\\npass = "1"'""",
            None,
        ),
    ],
)
def test_device_hsm_is_refused_where_it_makes_no_sense(
    manifest: Callable[[], bytes], options: tuple[str, ...], error: str, hint: str | None, dry: bool
) -> None:
    refusal(issue(manifest(), *options, *(["--dry-run"] if dry else [])), 2, error, hint=hint)


def test_device_hsm_without_sota_toml_is_refused(tmp_path: Path) -> None:
    make_ca_dir(tmp_path / "bare")
    ran = issue(csr_manifest([ONE], forms_of([ONE])), *DEVICE_HSM, "--pki", "bare")
    why = "no gateway host is known (no tls-crt, no --gateway)"
    error = f"--device-hsm says what stands in sota.toml, and bundles get none: {why}"
    refusal(ran, 2, error, hint="give what is missing, or leave out --device-hsm")


def test_device_hsm_looks_at_the_rows_that_are_issued_only() -> None:
    csrs = forms_of([ONE, TWO]) | {THREE: make_csr(ONE)}
    ran = issue(csr_manifest([ONE, TWO, THREE], csrs), *DEVICE_HSM, "--skip-rejects")
    assert ran.code == 3
    verified()


def test_device_hsm_cannot_be_changed_by_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = csr_manifest(UUIDS, forms_of(UUIDS))
    interrupted_run(monkeypatch, manifest)
    ran = issue(manifest, *DEVICE_HSM, "--resume")
    assert (ran.code, ran.err.splitlines()[0]) == (
        2,
        f"error: the run began otherwise: device_hsm_module was none, now {MODULE}",
    )


def test_standard_input_brings_csrs_too() -> None:
    manifest = csr_manifest(UUIDS, forms_of(UUIDS, 3))
    ran = run("issue", "--manifest", "-", *SMALL, "--hardware-id", "x", stdin=manifest)
    assert (ran.code, ran.err) == (0, "")
    verified()
