"""Verification where some devices keep their keys: what they may choose, and that no lost key looks like theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from csrs import forms_of, make_csr
from judges import shows_a_key
from made_runs import DEVICES, ROWS, UUIDS, MadeRun, Making, make_run
from made_runs import verify_sealed as verify
from mutants import (
    DEVICE_UUID,
    FACTORY,
    MATRIX,
    MORE,
    NOT_AFTER,
    NOT_BEFORE,
    OWN,
    OWN_FORMS,
    Authority,
    Fields,
    good_certificate,
    make_authority,
    mutant,
)
from test_verification_run import codes, edit_manifest, set_value

from batch_issuer.minting.keys import key_engine
from batch_issuer.verification.certificate import CertificateChecker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.bundles.contents import PartBundles

FORMATS = ("dir", "parquet", "tar", "tar.zst")
BROUGHT = UUIDS[::2]
MADE, CSR = 1, 2
"""Places of a device whose key was made, and of one that keeps its key."""


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


@pytest.fixture(scope="module")
def checker(authority: Authority) -> CertificateChecker:
    return checker_of(authority, FACTORY)


def checker_of(authority: Authority, factory: str) -> CertificateChecker:
    return CertificateChecker(authority.ca_der, factory=factory, not_before=NOT_BEFORE, not_after=NOT_AFTER)


def found(checker: CertificateChecker, leaf: bytes, *, own: bool = True, production: bool | None = False) -> set[str]:
    checked = checker.check(leaf, DEVICE_UUID, production=production, own_subject=own)
    return {fault.code for fault in checked.faults}


# Certificates


@pytest.mark.parametrize("name", OWN_FORMS)
def test_a_device_chooses_the_form_of_its_subject_in_its_csr_and_nowhere_else(
    authority: Authority, checker: CertificateChecker, name: str
) -> None:
    leaf = mutant(authority, good_certificate(authority), OWN_FORMS[name])
    assert found(checker, leaf) == set()
    assert found(checker, leaf, own=False) == (set() if name == "CN first" else {"certificate-subject"})
    assert found(checker, leaf, production=True) == {"certificate-subject"}
    assert found(checker, leaf, production=None) == set()


def test_a_production_device_too(authority: Authority, checker: CertificateChecker) -> None:
    leaf = mutant(authority, good_certificate(authority), OWN["production first"][1])
    assert found(checker, leaf, production=True) == found(checker, leaf, production=None) == set()


@pytest.mark.parametrize("name", sorted((MATRIX | MORE | OWN).keys() - {"OU before CN", "PrintableString"}))
def test_every_other_mutant_is_refused_all_the_same(
    authority: Authority, checker: CertificateChecker, name: str
) -> None:
    code, change = (MATRIX | MORE | OWN)[name]
    assert code in found(checker, mutant(authority, good_certificate(authority), change))


def test_a_factory_that_no_printable_string_can_hold_is_in_none(authority: Authority) -> None:
    good = Fields.of(good_certificate(authority))
    factory = FACTORY.encode()
    printable = replace(good, subject=good.subject.replace(b"\x0c\x04" + factory, b"\x13\x04a_me"))
    utf8 = replace(good, subject=good.subject.replace(factory, b"a_me"))
    checker = checker_of(authority, "a_me")
    assert found(checker, printable.signed(authority.ca_key)) == {"certificate-subject"}
    assert found(checker, utf8.signed(authority.ca_key)) == set()


# Runs


def mixed(authority: Authority, out: Path, format_name: str, **making: Any) -> MadeRun:
    return make_run(out, authority, format_name, Making(csrs=forms_of(BROUGHT), **making))


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_good_mixed_run_has_no_finding(authority: Authority, tmp_path: Path, format_name: str) -> None:
    run = mixed(authority, tmp_path / "out", format_name)
    report = verify(run, workers=2)
    assert (report.counts, report.devices) == ({}, DEVICES)


@pytest.mark.parametrize("format_name", FORMATS)
def test_so_has_a_run_in_which_all_keep_their_keys(authority: Authority, tmp_path: Path, format_name: str) -> None:
    run = make_run(tmp_path / "out", authority, format_name, Making(csrs=forms_of(UUIDS)))
    assert codes(run) == set()


def without_key(place: int) -> Callable[[PartBundles], PartBundles]:
    """The first part's device at a place loses its key."""

    def lose(part: PartBundles) -> PartBundles:
        if UUIDS[place].encode() not in part.device_uuids:
            return part
        return replace(part, private_keys=[None if i == place else key for i, key in enumerate(part.private_keys)])

    return lose


def with_key(place: int) -> Callable[[PartBundles], PartBundles]:
    def plant(part: PartBundles) -> PartBundles:
        if UUIDS[place].encode() not in part.device_uuids:
            return part
        [new] = key_engine("openssl").private_keys(1)
        return replace(part, private_keys=[new if i == place else key for i, key in enumerate(part.private_keys)])

    return plant


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("csrs", [{}, forms_of(BROUGHT)], ids=["none", "mixed"])
def test_a_key_that_is_lost_is_found_lost(
    authority: Authority, tmp_path: Path, format_name: str, csrs: dict[str, bytes]
) -> None:
    run = make_run(tmp_path / "out", authority, format_name, Making(csrs=csrs, stored=without_key(MADE)))
    report = verify(run)
    assert report.counts == {"bundle-file-missing": 1}
    assert (report.findings[0].device_uuid, report.findings[0].row) == (UUIDS[MADE], ROWS[MADE])
    assert report.findings[0].message == "pkey.pem is not in the bundle"


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_key_beside_a_csrs_certificate_is_found(authority: Authority, tmp_path: Path, format_name: str) -> None:
    report = verify(mixed(authority, tmp_path / "out", format_name, stored=with_key(CSR)))
    assert report.counts == {"bundle-file-unexpected": 1}
    assert report.findings[0].device_uuid == UUIDS[CSR]
    assert report.findings[0].message == "pkey.pem is in the bundle, and must not be"


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_lost_key_is_not_excused_by_its_row_alone(authority: Authority, tmp_path: Path, format_name: str) -> None:
    run = mixed(authority, tmp_path / "out", format_name, stored=without_key(MADE))
    edit_manifest(run, set_value("key_origin", lambda _: "csr", MADE))
    report = verify(run)
    assert report.counts == {"manifest-key-origin": 1}
    assert report.findings[0].message == "it says of 7 devices that they keep their keys, expected 6"


@pytest.mark.parametrize("format_name", FORMATS)
def test_nor_by_another_row_in_its_stead(authority: Authority, tmp_path: Path, format_name: str) -> None:
    """The number is right; but then a device that keeps its key would have to have it in its bundle."""
    run = mixed(authority, tmp_path / "out", format_name, stored=without_key(MADE))
    edit_manifest(run, set_value("key_origin", lambda _: "csr", MADE))
    edit_manifest(run, set_value("key_origin", lambda _: "made", CSR))
    counts = verify(run).counts
    assert counts.pop("certificate-subject", 1) == 1
    assert counts == {"bundle-file-missing": 1}


@pytest.mark.parametrize("format_name", FORMATS)
def test_nor_by_a_column_that_the_run_had_no_use_for(authority: Authority, tmp_path: Path, format_name: str) -> None:
    carried = {"key_origin": ["csr" if place == MADE else "made" for place in range(DEVICES)]}
    run = make_run(tmp_path / "out", authority, format_name, Making(carried=carried, stored=without_key(MADE)))
    assert verify(run).counts == {"bundle-file-missing": 1, "manifest-key-origin": 1}


def test_nor_by_a_record_of_fewer_or_more_csrs(authority: Authority, tmp_path: Path) -> None:
    for count in (0, 5, 7):
        run = mixed(authority, tmp_path / str(count), "tar")
        values = json.loads(run.folder.record.read_text())
        run.folder.record.write_text(json.dumps(values | {"csr_rows": count}))
        wanted = {"manifest-key-origin", "summary-value"}
        assert codes(run) == (wanted | {"bundle-file-missing", "certificate-subject"} if count == 0 else wanted)


@pytest.mark.parametrize("value", ["", "device", "CSR"])
def test_another_origin_is_none(authority: Authority, tmp_path: Path, value: str) -> None:
    run = mixed(authority, tmp_path / "out", "tar")
    edit_manifest(run, set_value("key_origin", lambda _: value, MADE))
    report = verify(run)
    assert report.counts == {"row-key-origin": 1}
    assert report.findings[0].message == f"key_origin is {value!r}, expected made or csr"


def test_a_manifest_without_the_column(authority: Authority, tmp_path: Path) -> None:
    run = mixed(authority, tmp_path / "out", "parquet")
    table = pq.read_table(run.manifest)
    pq.write_table(table.drop_columns(["key_origin"]), run.manifest)
    report = verify(run)
    assert report.counts["row-key-origin"] == DEVICES
    assert report.counts["manifest-key-origin"] == 1


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize(("committed", "published"), [(2, 2), (2, 1), (1, 0)])
def test_an_unfinished_mixed_run_is_that_and_nothing_else(
    authority: Authority, tmp_path: Path, format_name: str, committed: int, published: int
) -> None:
    run = mixed(authority, tmp_path / "out", format_name, committed=committed, published=published)
    assert codes(run) - {"bundle-unpublished"} == {"run-unfinished"}


@pytest.mark.parametrize("format_name", FORMATS)
def test_one_key_in_two_csrs_is_found(authority: Authority, tmp_path: Path, format_name: str) -> None:
    from pki import p256

    key = p256()
    csrs = forms_of(BROUGHT) | {uuid: make_csr(uuid, key=key) for uuid in BROUGHT[:2]}
    run = make_run(tmp_path / "out", authority, format_name, Making(csrs=csrs))
    assert verify(run).counts == {"key-twice": 1}


# sota.toml for a device's HSM


def for_hsm(authority: Authority, out: Path, edit: Callable[[bytes], bytes] = lambda text: text) -> MadeRun:
    def edited(part: PartBundles) -> PartBundles:
        assert part.sota_toml is not None
        return replace(part, sota_toml=[edit(text) for text in part.sota_toml])

    making = Making({"device_hsm_module": "/usr/lib/p11.so"}, csrs=forms_of(UUIDS), stored=edited)
    return make_run(out, authority, "tar", making)


def test_a_good_sota_toml_for_an_hsm(authority: Authority, tmp_path: Path) -> None:
    assert codes(for_hsm(authority, tmp_path / "out")) == set()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"/usr/lib/p11.so", b"/tmp/p11.so", "p11.'module' is '/tmp/p11.so', expected '/usr/lib/p11.so'"),
        (b'"aktualizr"', b'"other"', "p11.'label' is 'other', expected 'aktualizr'"),
        (b'pkey_source = "pkcs11"', b'pkey_source = "file"', "tls.'pkey_source' is 'file', expected 'pkcs11'"),
        (b'tls_pkey_id = "01"', b"tls_pkey_id = 1", "p11.'tls_pkey_id' is '1', expected '01'"),
        (
            b"# tls_pkey_path is not set",
            b'tls_pkey_path = "/var/sota/pkey.pem"',
            "import.'tls_pkey_path' is '/var/sota/pkey.pem', expected None",
        ),
        (b"[p11]\n", b'[p11]\npass = "8675309"\n', "p11.'pass' is a PIN, expected None"),
    ],
)
def test_another_one_is_found_and_no_pin_is_shown(
    authority: Authority, tmp_path: Path, old: bytes, new: bytes, told: str
) -> None:
    run = for_hsm(authority, tmp_path / "out", lambda text: text.replace(old, new))
    report = verify(run)
    assert report.counts == {"bundle-sota": DEVICES}
    assert report.findings[0].message == f"sota.toml: {told}"
    assert not any("8675309" in str(finding) or shows_a_key(str(finding).encode(), []) for finding in report.findings)


def test_a_sota_toml_for_an_hsm_where_none_was_asked_for(authority: Authority, tmp_path: Path) -> None:
    run = for_hsm(authority, tmp_path / "out")
    values = json.loads(run.folder.record.read_text())
    run.folder.record.write_text(json.dumps(values | {"device_hsm_module": None}))
    assert codes(run) == {"bundle-sota"}
