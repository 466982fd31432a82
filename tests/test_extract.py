"""`extract`: bundles out of any format as folders for devices, all or nothing, and nothing written over."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from judges import (
    BUNDLE_MODES,
    FORMATS,
    contents,
    csv_bytes,
    device_bundle,
    device_uuids,
    file_system,
    interrupted_run,
    issue,
    modes,
    run,
    run_process,
    stored_bundles,
)

UUIDS = device_uuids(8)
STRANGERS = [f"{index:08x}-0000-4000-8000-000000000000" for index in range(1, 8)]

pytestmark = pytest.mark.usefixtures("work")


def issued(*options: str) -> dict[str, dict[str, bytes]]:
    assert issue(csv_bytes(UUIDS), *options).code == 0
    return stored_bundles(Path("issued"))


def folders(to: Path) -> dict[str, dict[str, bytes]]:
    return {path.name: {file.name: file.read_bytes() for file in path.iterdir()} for path in to.iterdir()}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("stored_as", FORMATS)
def test_all_bundles_come_out_as_they_were_stored(stored_as: str, kind: str, factory_pki: Path) -> None:
    bundles = issued("--format", stored_as, "--manifest-format", kind)
    ran = run("extract", "issued", "--all", "--to", "devices")
    assert (ran.code, ran.err, ran.out) == (0, "", "8 bundles extracted to devices\n")
    assert folders(Path("devices")) == bundles
    for device, files in bundles.items():
        device_bundle(files, device, factory_pki)
    expected = {".": 0o700} | dict.fromkeys(UUIDS, 0o700)
    expected |= {f"{device}/{name}": mode for device in UUIDS for name, mode in BUNDLE_MODES.items()}
    assert modes(Path("devices")) == expected


@pytest.mark.parametrize("stored_as", FORMATS)
def test_some_bundles_are_named_in_either_case_and_more_than_once(stored_as: str) -> None:
    bundles = issued("--format", stored_as)
    ran = run("extract", "issued", UUIDS[7].upper(), UUIDS[0], UUIDS[7], "--to", "a/b")
    assert (ran.code, ran.err, ran.out) == (0, "", "2 bundles extracted to a/b\n")
    assert folders(Path("a/b")) == {device: bundles[device] for device in (UUIDS[0], UUIDS[7])}
    ran = run("extract", "issued", UUIDS[3], "--to", "a/b", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, {"devices": 1, "to": "a/b"})
    assert sorted(folders(Path("a/b"))) == [UUIDS[0], UUIDS[3], UUIDS[7]]


def test_quiet_is_quiet() -> None:
    issued()
    ran = run("extract", "issued", "--all", "--to", "devices", "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=oct)
def test_modes_are_the_same_under_every_umask(umask: int) -> None:
    issued("--format", "tar")
    assert run_process("extract", "issued", UUIDS[0], "--to", "lots/devices", umask=umask).code == 0
    expected = {".": 0o700, "devices": 0o700, f"devices/{UUIDS[0]}": 0o700}
    expected |= {f"devices/{UUIDS[0]}/{name}": mode for name, mode in BUNDLE_MODES.items()}
    assert modes(Path("lots")) == expected


@pytest.mark.parametrize("stored_as", FORMATS)
def test_an_unfinished_run_gives_what_it_has_committed(stored_as: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_run(monkeypatch, csv_bytes(UUIDS), "--format", stored_as)
    bundles = stored_bundles(Path("issued"))
    assert run("extract", "issued", UUIDS[0], "--to", "devices").code == 0
    assert folders(Path("devices")) == {UUIDS[0]: bundles[UUIDS[0]]}
    ran = run("extract", "issued", UUIDS[7], "--to", "other")
    assert ran.err == f"error: not issued by this run: {UUIDS[7]}\nhint: the output manifest lists what is\n"
    assert (ran.code, Path("other").exists()) == (2, False)


def test_devices_that_the_run_did_not_issue_are_named_and_nothing_is_written() -> None:
    issued()
    ran = run("extract", "issued", UUIDS[0], STRANGERS[0], "--to", "devices")
    assert ran.err == f"error: not issued by this run: {STRANGERS[0]}\nhint: the output manifest lists what is\n"
    assert (ran.code, Path("devices").exists()) == (2, False)
    ran = run("extract", "issued", *STRANGERS, "--to", "devices")
    assert ran.err.splitlines()[0] == f"error: not issued by this run: {', '.join(STRANGERS[:5])} and 2 more"
    assert (ran.code, Path("devices").exists()) == (2, False)


@pytest.mark.parametrize("text", ["nope", f"../{UUIDS[0]}", f"{{{UUIDS[0]}}}", f"{UUIDS[0]}\n", "", "x" * 1000])
def test_what_is_no_uuid_is_refused(text: str) -> None:
    issued()
    ran = run("extract", "issued", text, "--to", "devices")
    error = f"error: expected a UUID of 8-4-4-4-12 hexadecimal digits, got {text[:60]!r}\n"
    assert (ran.code, ran.err, Path("devices").exists()) == (2, error, False)


def test_uuids_and_all_exclude_each_other() -> None:
    issued()
    for arguments in ((), (UUIDS[0], "--all")):
        ran = run("extract", "issued", *arguments, "--to", "devices")
        assert (ran.code, ran.err.splitlines()[-1]) == (2, "Error: expected either UUIDs or --all")
        assert not Path("devices").exists()


@pytest.mark.parametrize("kind", ["folder", "file", "link", "dangling link"])
def test_what_is_there_already_is_left_alone(kind: str) -> None:
    issued()
    Path("devices").mkdir()
    place = Path("devices", UUIDS[1])
    if kind == "folder":
        place.mkdir()
        (place / "pkey.pem").write_text("mine")
    elif kind == "file":
        place.write_text("mine")
    else:
        Path("victim").mkdir()
        place.symlink_to(Path("victim" if kind == "link" else "nowhere").absolute())
    before = contents(Path("devices"))
    ran = run("extract", "issued", "--all", "--to", "devices")
    assert ran.err == f"error: devices/{UUIDS[1]} is there already\nhint: take another --to, or move it away\n"
    assert (ran.code, contents(Path("devices"))) == (2, before)
    assert run("extract", "issued", UUIDS[0], "--to", "devices").code == 0
    ran = run("extract", "issued", UUIDS[0], UUIDS[1], "--to", "devices")
    assert ran.err.splitlines()[0] == f"error: devices/{UUIDS[0]} is there already and 1 more"


def test_a_folder_that_holds_no_run() -> None:
    Path("empty").mkdir()
    for name in ("empty", "nowhere"):
        ran = run("extract", name, "--all", "--to", "devices")
        assert (ran.code, ran.err) == (2, f"error: {name} holds no run: there is no run.json\n")
    Path("file").write_text("")
    ran = run("extract", "file/below", "--all", "--to", "devices")
    assert (ran.code, ran.err) == (2, "error: file/below holds no run: there is no run.json\n")
    assert not Path("devices").exists()


def test_a_target_that_cannot_be_made() -> None:
    issued()
    Path("file").write_text("mine")
    ran = run("extract", "issued", "--all", "--to", "file/devices")
    assert ran.err == "error: the folder file/devices cannot be made: Not a directory\n"
    assert (ran.code, Path("file").read_text()) == (2, "mine")
    assert run("extract", "issued", "--all", "--to", "file").code == 2


@pytest.mark.parametrize("stored_as", FORMATS)
def test_a_bundle_that_is_gone_is_named(stored_as: str) -> None:
    issued("--format", stored_as)
    name = UUIDS[0] if stored_as == "dir" else f"part-00000.{stored_as}"
    Path("issued/bundles", name).rename("aside")
    ran = run("extract", "issued", "--all", "--to", "devices")
    kind = " as a folder" if stored_as == "dir" else ""
    assert (ran.code, ran.err) == (1, f"error: {name} cannot be opened{kind}: No such file or directory\n")
    assert contents(Path("devices")) == {}


@pytest.mark.parametrize("name", ["pkey.pem", "client.pem", "root.crt"])
def test_a_bundle_that_lacks_a_file_is_named(name: str) -> None:
    issued()
    Path("issued/bundles", UUIDS[2], name).unlink()
    ran = run("extract", "issued", UUIDS[2], "--to", "devices")
    assert (ran.code, ran.err) == (1, f"error: the bundle of {UUIDS[2]} has no {name}\n")
    assert contents(Path("devices")) == {}


def test_two_parts_that_changed_places_are_found() -> None:
    issued("--format", "tar")
    first, second = (Path(f"issued/bundles/part-0000{index}.tar") for index in (0, 1))
    first.rename("aside")
    second.rename(first)
    Path("aside").rename(second)
    ran = run("extract", "issued", UUIDS[0], "--to", "devices")
    assert (ran.code, ran.err) == (1, f"error: bundles/part-00000.tar has no bundle of {UUIDS[0]}\n")
    assert contents(Path("devices")) == {}


def test_a_stored_bundle_with_a_wrong_mode_comes_out_right_with_a_warning() -> None:
    issued()
    Path("issued/bundles", UUIDS[0], "pkey.pem").chmod(0o644)
    ran = run("extract", "issued", UUIDS[0], "--to", "devices")
    assert ran.err == f"warning: the mode of {UUIDS[0]}/pkey.pem is 0644, expected 0600\n"
    assert (ran.code, modes(Path("devices"))[f"{UUIDS[0]}/pkey.pem"]) == (0, 0o600)


def test_a_link_planted_as_a_stored_key_is_not_followed() -> None:
    issued()
    key = Path("issued/bundles", UUIDS[0], "pkey.pem")
    Path("victim").write_text("secret of somebody else")
    key.unlink()
    key.symlink_to(Path("victim").absolute())
    ran = run("extract", "issued", UUIDS[0], "--to", "devices")
    assert ran.err.splitlines()[-1] == f"error: the bundle of {UUIDS[0]} has no pkey.pem"
    assert (ran.code, contents(Path("devices"))) == (1, {})


@pytest.mark.parametrize(
    "place", ["bundles/../../victim", "/etc", "bundles/", "../bundles/x", f"bundles/{UUIDS[1]}", "bundles/part-1.tar"]
)
def test_a_manifest_that_leads_elsewhere_is_not_believed(place: str) -> None:
    issued()
    manifest = Path("issued/manifest.csv")
    manifest.write_text(manifest.read_text().replace(f"bundles/{UUIDS[0]}", place))
    ran = run("extract", "issued", UUIDS[0], "--to", "devices")
    error = f"error: the output manifest names a bundle that cannot be: {place!r} for {UUIDS[0]!r}\n"
    assert (ran.code, ran.err, Path("devices").exists()) == (2, error, False)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("content", [None, b"", b"nothing\nof the kind\n", b"PAR1"])
def test_a_damaged_manifest_is_refused(content: bytes | None, kind: str) -> None:
    issued("--manifest-format", kind)
    manifest = Path(f"issued/manifest.{kind}")
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content)
    ran = run("extract", "issued", "--all", "--to", "devices")
    assert ran.err.startswith(f"error: manifest.{kind} is missing or damaged: ")
    assert len(ran.err.splitlines()) == 1
    assert (ran.code, Path("devices").exists()) == (2, False)


def test_nothing_but_devices_is_left_when_it_fails_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from batch_issuer import extraction

    issued()
    monkeypatch.setattr(extraction, "_BATCH", 3)
    Path("issued/bundles", UUIDS[4], "client.pem").unlink()
    ran = run("extract", "issued", "--all", "--to", "devices")
    assert (ran.code, ran.err) == (1, f"error: the bundle of {UUIDS[4]} has no client.pem\n")
    assert sorted(os.listdir("devices")) == UUIDS[:3]
    assert all(len(files) == 4 for files in folders(Path("devices")).values())


def test_a_full_disk_is_told_in_a_sentence_and_nothing_half_made_is_left() -> None:
    issued("--format", "tar")
    with file_system(Path("disk"), "size=64k,mode=700") as disk:
        ran = run("extract", "issued", "--all", "--to", disk / "devices")
        assert ran.err.startswith("error: ")
        assert "No space left on device" in ran.err
        assert "should not have happened" not in ran.err
        assert ran.code == 1
        assert set(contents(disk)) <= {"devices"}
