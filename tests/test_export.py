"""Exports: each file read back by an ordinary reader and compared with the manifest; no key in any of them."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from csrs import csr_manifest, forms_of
from judges import (
    FORMATS,
    csv_bytes,
    csv_rows,
    device_uuids,
    file_system,
    interrupted_run,
    issue,
    modes,
    private_values,
    run,
    run_process,
    shows_a_key,
    stored_bundles,
)

from batch_issuer import files
from batch_issuer.errors import RefusedError
from batch_issuer.exporting import targets
from batch_issuer.exporting.targets import TARGET_NAMES, export_target

if TYPE_CHECKING:
    from judges import Ran

COUNT = 7
UUIDS = device_uuids(COUNT)
GROUPS = ["line 1", "", "line,2", 'the "third"', "", "", "=cmd()"]
MANIFEST = csv_bytes(
    (
        f'{uuid},n{place},"{group.replace(chr(34), chr(34) * 2)}"'
        for place, (uuid, group) in enumerate(zip(UUIDS, GROUPS, strict=True))
    ),
    header="device_uuid,name,group",
)


def export(target: str, *options: str | Path) -> Ran:
    return run("export", "issued", "--for", target, "--to", "to", *options)


def exported(target: str) -> list[Path]:
    """Its files of devices, in their order."""
    return sorted(Path("to").glob(f"{target}-0*"))


def split_at(monkeypatch: pytest.MonkeyPatch, target: str, limit: int) -> None:
    """As if the target's documents had this limit."""
    monkeypatch.setitem(targets._TARGETS, target, replace(export_target(target), limit=limit))


def is_certificate(text: str, row: dict[str, str]) -> None:
    """It is the one that the manifest says, as one PEM block."""
    assert text.startswith("-----BEGIN CERTIFICATE-----\n")
    assert text.count("-----BEGIN") == 1
    der = x509.load_pem_x509_certificate(text.encode()).public_bytes(Encoding.DER)
    assert hashlib.sha256(der).hexdigest() == row["certificate_sha256"]


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


# What each target gets


@pytest.mark.parametrize("options", [("--format", "tar"), ("--with-certificates",)], ids=["bundles", "manifest"])
def test_aws(work: Path, options: tuple[str, ...]) -> None:
    assert issue(MANIFEST, *options).code == 0
    assert export("aws").code == 0
    rows = csv_rows(Path("issued/manifest.csv"))
    found = lines(Path("to/aws-00000.json"))
    template = json.loads(Path("to/aws-template.json").read_bytes())
    assert [one["ThingName"] for one in found] == UUIDS == [row["device_uuid"] for row in rows]
    for one, row in zip(found, rows, strict=True):
        assert set(one) == {"ThingName", "CertificatePem"} == set(template["Parameters"]) - {"CACertificatePem"}
        is_certificate(one["CertificatePem"], row)
    ca = template["Parameters"]["CACertificatePem"]["Default"]
    assert ca == (work / "pki" / "local-ca.pem").read_text()
    assert len(Path("to/aws-template.json").read_text()) <= 10_240  # StartThingRegistrationTask, templateBody
    references = [
        value["Ref"] for one in template["Resources"].values() for value in one["Properties"].values() if "Ref" in value
    ]
    assert sorted(references) == sorted(template["Parameters"])


def test_nrfcloud(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a header, and never more rows in a file than it takes."""
    assert export_target("nrfcloud").limit == 1000
    split_at(monkeypatch, "nrfcloud", 3)
    assert issue(MANIFEST).code == 0
    assert export("nrfcloud").code == 0
    tables = [table(path) for path in exported("nrfcloud")]
    assert [len(one) for one in tables] == [3, 3, 1]
    found = [row for one in tables for row in one]
    for (uuid, *fixed, certificate), row, group in zip(
        found, csv_rows(Path("issued/manifest.csv")), GROUPS, strict=True
    ):
        assert (uuid, fixed) == (row["device_uuid"], ["", group, "APP|MODEM"])
        is_certificate(certificate, row)


def test_rainmaker(work: Path) -> None:
    assert issue(MANIFEST, "--format", "tar").code == 0
    assert export("rainmaker").code == 0
    header, *found = table(Path("to/rainmaker-00000.csv"))
    assert header == ["node_id", "certs"]
    for (uuid, certificate), row in zip(found, csv_rows(Path("issued/manifest.csv")), strict=True):
        assert uuid == row["device_uuid"]
        is_certificate(certificate, row)


def test_azure(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export_target("azure").limit == 1_000_000
    split_at(monkeypatch, "azure", 4)
    assert issue(MANIFEST).code == 0
    assert export("azure").code == 0
    files = [lines(path) for path in exported("azure")]
    assert [len(one) for one in files] == [4, 3]
    found = [one for some in files for one in some]
    for one, row in zip(found, csv_rows(Path("issued/manifest.csv")), strict=True):
        thumbprint = {"primaryThumbprint": row["certificate_sha256"].upper(), "secondaryThumbprint": None}
        assert one == {
            "id": row["device_uuid"],
            "importMode": "create",
            "status": "enabled",
            "authentication": {"type": "selfSigned", "x509Thumbprint": thumbprint},
        }


@pytest.mark.parametrize("options", [(), ("--spreadsheet-safe",)], ids=["plain", "safe"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_csv(work: Path, kind: str, options: tuple[str, ...]) -> None:
    assert issue(MANIFEST, "--manifest-format", kind, *options).code == 0
    assert export("csv").code == 0
    header, *found = table(Path("to/csv-00000.csv"))
    bundles = stored_bundles(Path("issued"))
    for values, uuid, group, place in zip(found, UUIDS, GROUPS, range(COUNT), strict=True):
        row = dict(zip(header, values, strict=True))
        leaf = x509.load_pem_x509_certificate(bundles[uuid]["client.pem"])
        assert row["device_uuid"] == uuid
        assert row["serial_number"] == f"{leaf.serial_number:040x}"
        assert row["not_before"] == f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
        assert row["not_after"] == f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
        assert row["certificate_pem"].encode() == bundles[uuid]["client.pem"]
        assert row["name"] == f"n{place}"
        assert row["group"] == ("'" + group if options and group.startswith("=") else group)
        assert len(row["public_key_sha256"]) == 64


@pytest.mark.parametrize("form", FORMATS)
def test_no_private_key_is_in_any_file(work: Path, form: str) -> None:
    """As octets, hex, base64 or decimal."""
    csrs = forms_of(UUIDS[:2])
    assert issue(csr_manifest(UUIDS, csrs), "--format", form).code == 0
    values = private_values(one["pkey.pem"] for one in stored_bundles(Path("issued")).values() if "pkey.pem" in one)
    assert len(values) == COUNT - 2
    for target in TARGET_NAMES:
        assert export(target).code == 0
    written = [path for path in Path("to").iterdir() if path.name != ".export"]
    assert len(written) == len(TARGET_NAMES) + 1
    assert not [path for path in written if shows_a_key(path.read_bytes(), values)]
    keys = b"".join(one["pkey.pem"] for one in stored_bundles(Path("issued")).values() if "pkey.pem" in one)
    assert shows_a_key(keys, values)


def test_files_are_private_and_nothing_else_is_left(work: Path) -> None:
    assert issue(MANIFEST).code == 0
    before = modes(Path("issued"))
    assert run_process("export", "issued", "--for", "aws", umask=0).code == 0
    assert modes(Path("issued-aws")) == {".": 0o700, "aws-00000.json": 0o600, "aws-template.json": 0o600}
    assert modes(Path("issued")) == before
    assert run("verify", "issued", "--pki", "pki").code == 0


# What it says


def test_what_it_says(work: Path) -> None:
    assert issue(MANIFEST).code == 0
    hint = export_target("aws").hint
    first, again = export("aws"), export("aws")
    assert (first.code, first.err) == (again.code, again.err) == (0, "")
    assert first.out == f"7 devices exported to to in 2 files\n  next  {hint}\n"
    assert again.out == f"7 devices exported to to in 2 files, 0 of them new\n  next  {hint}\n"
    done = export("aws", "--json")
    expected = {
        "target": "aws",
        "to": "to",
        "devices": 7,
        "files": ["aws-00000.json", "aws-template.json"],
        "written": 0,
    }
    assert json.loads(done.out) == expected
    assert export("aws", "-q").out == ""


def test_the_names_of_targets_are_those_that_are_known() -> None:
    ran = run("export", "x", "--for", "gcp")
    known = ", ".join(f"'{name}'" for name in TARGET_NAMES)
    assert ran.code == 2
    assert f"'gcp' is not one of {known}" in ran.err
    with pytest.raises(RefusedError, match="export target 'gcp' is not known"):
        export_target("gcp")


# What it refuses


def test_an_unfinished_run_is_refused(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, MANIFEST)
    ran = export("aws")
    error = "the run in issued is unfinished, and only a finished run is exported"
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f"error: {error}\nhint: `batch-issuer issue --resume` finishes it\n"
    assert not Path("to").exists()
    assert issue(MANIFEST, "--resume").code == 0
    assert export("aws").code == 0


def test_no_run_is_refused(work: Path) -> None:
    ran = export("csv")
    assert (ran.code, ran.err) == (2, "error: issued holds no run: there is no run.json\n")


def test_another_file_is_not_overwritten(work: Path) -> None:
    assert issue(MANIFEST).code == 0
    Path("to").mkdir()
    Path("to/csv-00000.csv").write_text("mine")
    for linked in (False, True):
        if linked:
            _replace_by_link(Path("to/csv-00000.csv"))
        ran = export("csv")
        error = "to/csv-00000.csv is there already, and is another"
        assert (ran.code, ran.err) == (2, f"error: {error}\nhint: take another --to, or move it away\n")
        assert Path("to/csv-00000.csv").read_text() == "mine"
        assert [path.name for path in Path("to").iterdir()] == ["csv-00000.csv"]


def _replace_by_link(path: Path) -> None:
    path.rename("elsewhere")
    path.symlink_to(Path("elsewhere").absolute())


def test_a_group_that_would_become_two_tags_is_refused(work: Path) -> None:
    assert issue(csv_bytes([f"{UUIDS[0]},a|b"], header="device_uuid,group")).code == 0
    ran = export("nrfcloud")
    error = "row 1: nRF Cloud would take the group 'a|b' for several tags, by its '|'"
    assert (ran.code, ran.err) == (2, f"error: {error}\nhint: choose another name for the group in the manifest\n")
    assert list(Path("to").iterdir()) == []
    assert export("rainmaker").code == 0


def test_a_wrong_certificate_is_not_exported(work: Path) -> None:
    assert issue(MANIFEST).code == 0
    bundles = Path("issued/bundles")
    (bundles / UUIDS[2] / "client.pem").write_bytes((bundles / UUIDS[1] / "client.pem").read_bytes())
    ran = export("rainmaker")
    error = f"the certificate of {UUIDS[2]} is not the one that the output manifest says"
    hint = "`batch-issuer verify` tells what is wrong with this run"
    assert (ran.code, ran.err) == (1, f"error: {error}\nhint: {hint}\n")
    assert list(Path("to").iterdir()) == []


def test_a_manifest_that_lost_a_row_is_noticed(work: Path) -> None:
    assert issue(MANIFEST).code == 0
    manifest = Path("issued/manifest.csv")
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:-1]))
    ran = export("azure")
    assert ran.code == 2
    assert ran.err.startswith("error: the output manifest has 6 devices, and 7 were issued\nhint: ")


def test_a_folder_that_cannot_be_is_refused(work: Path) -> None:
    assert issue(MANIFEST).code == 0
    Path("file").touch()
    ran = run("export", "issued", "--for", "csv", "--to", "file/below")
    assert (ran.code, ran.err) == (2, "error: the folder file/below cannot be made or used: Not a directory\n")


def test_two_exports_at_once(work: Path) -> None:
    assert issue(MANIFEST).code == 0
    with files.scratch_folder(_made(Path("to")) / ".export"):
        ran = export("csv")
    assert (ran.code, ran.err) == (2, "error: another export writes to to\nhint: wait for it to end\n")
    assert export("csv").code == 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_sealed_bundles_need_an_identity_and_their_digests_none(work: Path) -> None:
    pytest.importorskip("pyrage")
    from pyrage import x25519

    identity = x25519.Identity.generate()
    Path("identity").touch(0o600)
    Path("identity").write_text(f"{identity}\n")
    assert issue(MANIFEST, "--format", "tar", "--seal-to", str(identity.to_public())).code == 0
    ran = export("rainmaker")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("error: this run's bundles are sealed, and need an identity of ")
    assert not Path("to").exists()
    assert export("azure").code == 0
    assert export("rainmaker", "--identity", "identity").code == 0
    for (_, certificate), row in zip(
        table(Path("to/rainmaker-00000.csv"))[1:], csv_rows(Path("issued/manifest.csv")), strict=True
    ):
        is_certificate(certificate, row)


# What stops it


def test_a_full_disk_ends_it_and_the_same_command_goes_on(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that is there is whole; what is left is made when there is space."""
    split_at(monkeypatch, "nrfcloud", 2)
    assert issue(MANIFEST).code == 0
    with file_system(work / "disk", "size=12k"):
        to = work / "disk" / "to"
        ran = run("export", "issued", "--for", "nrfcloud", "--to", to)
        assert ran.code == 1
        assert ran.err.endswith("cannot be written: No space left on device\nhint: make space, and do it again\n")
        there = sorted(path.name for path in to.iterdir())
        assert there == [f"nrfcloud-{index:05d}.csv" for index in range(len(there))]
        assert all(len(table(path)) == 2 for path in to.iterdir())
        assert export("nrfcloud").code == 0
        whole = {path.name: path.read_bytes() for path in exported("nrfcloud")}
        assert {name: (to / name).read_bytes() for name in there}.items() <= whole.items()


def test_a_kill_leaves_only_whole_files(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at each of its writes and renames, it is simply done again, and ends as if nothing had been."""
    split_at(monkeypatch, "nrfcloud", 3)
    assert issue(MANIFEST).code == 0
    assert export("nrfcloud").code == 0
    whole = {path.name: path.read_bytes() for path in Path("to").iterdir()}
    for calls in range(1, 10):
        target = Path(f"to-{calls}")
        with monkeypatch.context() as patch:
            stop_at(patch, calls)
            with pytest.raises(Killed):
                run("export", "issued", "--for", "nrfcloud", "--to", target)
        # What a kill would leave; ending by an exception has removed it.
        _made(target / ".export").joinpath("nrfcloud-00000.csv").write_text("half") if target.exists() else None
        there = {path.name: path.read_bytes() for path in target.glob("nrfcloud*")}
        assert there.items() <= whole.items()
        assert run("export", "issued", "--for", "nrfcloud", "--to", target).code == 0
        assert {path.name: path.read_bytes() for path in target.iterdir()} == whole


class Killed(BaseException):
    """The end of the process, as far as a test can have it in its own."""


def stop_at(patch: pytest.MonkeyPatch, calls: int) -> None:
    left = [calls]

    def counted(wrapped: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return wrapped(*arguments, **named)

        return call

    for call in ("fsync", "link", "unlink"):
        patch.setattr(os, call, counted(getattr(os, call)))


def test_an_error_of_the_disk_is_told(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert issue(MANIFEST).code == 0

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    ran = export("csv")
    assert (ran.code, ran.err) == (1, "error: to/csv-00000.csv cannot be written: Input/output error\n")
    assert list(Path("to").iterdir()) == []
