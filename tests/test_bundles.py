"""What a device gets, however it is stored: the files, their modes, and what other programs make of them."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from judges import (
    BUNDLE_MODES,
    FORMATS,
    SMALL,
    contents,
    csv_bytes,
    device_bundle,
    device_uuids,
    issue,
    openssl_accepts,
    run,
    stored_bundles,
)
from pki import make_ca_dir, make_pki

from batch_issuer.bundles.format import bundle_format as format_called
from batch_issuer.bundles.sota import SotaSettings, sota_toml
from batch_issuer.errors import BundleError, RefusedError

if TYPE_CHECKING:
    from batch_issuer.bundles.contents import Bundle

UUIDS = device_uuids(8)
PACKED = tuple(name for name in FORMATS if name != "dir")
FILES = ["pkey.pem", "client.pem", "root.crt", "sota.toml"]

pytestmark = pytest.mark.usefixtures("work")


@pytest.mark.parametrize("stored_as", FORMATS)
def test_every_format_holds_a_whole_bundle_per_device(stored_as: str, factory_pki: Path) -> None:
    assert issue(csv_bytes(UUIDS), "--format", stored_as).code == 0
    bundles = stored_bundles(Path("issued"))
    assert sorted(bundles) == UUIDS
    for device, files in bundles.items():
        assert sorted(files) == sorted(FILES)
        device_bundle(files, device, factory_pki)


@pytest.mark.parametrize("partial", [False, True], ids=["below-the-root", "local-ca-as-the-only-anchor"])
@pytest.mark.parametrize("stored_as", FORMATS)
def test_openssl_verifies_the_clients_certificate(stored_as: str, partial: bool, tmp_path: Path) -> None:
    pki = Path("pki")
    assert issue(csv_bytes(UUIDS), "--format", stored_as, "--production").code == 0
    stranger = make_ca_dir(tmp_path / "other")
    for files in list(stored_bundles(Path("issued")).values())[::3]:
        Path("client.pem").write_bytes(files["client.pem"])
        assert openssl_accepts(Path("client.pem"), pki, partial=partial)
        assert not openssl_accepts(Path("client.pem"), stranger, partial=partial)
        shown = ["openssl", "ec", "-in", "/dev/stdin", "-pubout"]
        key = subprocess.run(shown, input=files["pkey.pem"], capture_output=True, check=True).stdout
        shown = ["openssl", "x509", "-in", "client.pem", "-noout", "-pubkey"]
        assert subprocess.run(shown, capture_output=True, check=True).stdout == key


def test_folders_are_as_on_the_device() -> None:
    assert issue(csv_bytes(UUIDS[:2])).code == 0
    for device in UUIDS[:2]:
        folder = Path("issued/bundles", device)
        found = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in folder.iterdir()}
        assert found == BUNDLE_MODES
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("stored_as", ["tar", "tar.zst"])
def test_gnu_tar_lists_and_extracts_what_is_stored(stored_as: str) -> None:
    if stored_as == "tar.zst" and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    assert issue(csv_bytes(UUIDS), "--format", stored_as).code == 0
    archives = sorted(Path("issued/bundles").iterdir())
    assert [path.name for path in archives] == [f"part-0000{index}.{stored_as}" for index in range(3)]
    Path("gnu").mkdir()
    listed = []
    for archive in archives:
        listing = subprocess.run(["tar", "-tvf", archive], capture_output=True, check=True, text=True)
        assert listing.stderr == ""
        listed += [line.split() for line in listing.stdout.splitlines()]
        done = subprocess.run(["tar", "-xpf", archive, "-C", "gnu"], capture_output=True, check=True)
        assert done.stderr == b""
    flags = {"": "drwx------", "pkey.pem": "-rw-------", "client.pem": "-rw-r--r--", "root.crt": "-rw-r--r--"}
    flags["sota.toml"] = "-rw-------"
    expected = [(f"{device}/{name}", flags[name]) for device in UUIDS for name in ("", *FILES)]
    assert [(line[-1], line[0]) for line in listed] == expected
    assert {line[1] for line in listed} <= {"0/0", "root/root"}
    bundles = stored_bundles(Path("issued"))
    for device in UUIDS:
        files = {path.name: path.read_bytes() for path in Path("gnu", device).iterdir()}
        assert files == bundles[device]
        assert {path.name: path.stat().st_mode & 0o7777 for path in Path("gnu", device).iterdir()} == BUNDLE_MODES


def test_a_tar_has_regular_files_and_folders_of_ustar_alone() -> None:
    assert issue(csv_bytes(UUIDS), "--format", "tar").code == 0
    with tarfile.open("issued/bundles/part-00000.tar", "r:") as archive:
        members = archive.getmembers()
        assert [member.name.partition("/")[0] for member in members[::5]] == UUIDS[:3]
        assert {(member.uid, member.gid, member.mtime, member.linkname) for member in members} == {(0, 0, 0, "")}
        assert {member.type for member in members} == {tarfile.REGTYPE, tarfile.DIRTYPE}
        archive.extractall("python", filter="data")
    bundles = stored_bundles(Path("issued"))
    found = {path.name: {file.name: file.read_bytes() for file in path.iterdir()} for path in Path("python").iterdir()}
    assert found == {device: bundles[device] for device in UUIDS[:3]}
    size = Path("issued/bundles/part-00000.tar").stat().st_size
    assert size % 512 == 0


@pytest.mark.parametrize("with_sota", [True, False])
def test_parquet_parts_have_the_contracts_columns_and_nothing_else(with_sota: bool, factory_pki: Path) -> None:
    options = ("--format", "parquet")
    Path("devices.csv").write_bytes(csv_bytes(UUIDS))
    hardware = ("--hardware-id", "imx8mm") if with_sota else ()
    assert run("issue", "--manifest", "devices.csv", *SMALL, *options, *hardware).code == 0
    columns = {"device_uuid": pa.string(), "private_key": pa.binary(), "certificate": pa.binary()}
    columns |= {"sota_toml": pa.string()} if with_sota else {}
    for index, devices in enumerate((UUIDS[:3], UUIDS[3:6], UUIDS[6:])):
        part = Path(f"issued/bundles/part-0000{index}.parquet")
        metadata = pq.read_metadata(part)
        schema = pq.read_schema(part)
        assert dict(zip(schema.names, schema.types, strict=True)) == columns
        assert metadata.metadata == {b"root.crt": (factory_pki / "factory_ca.pem").read_bytes()}
        group = metadata.row_group(0)
        assert not any(group.column(place).is_stats_set for place in range(group.num_columns))
        for row, device in zip(pq.read_table(part).to_pylist(), devices, strict=True):
            key = load_der_private_key(row["private_key"], None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            assert row["private_key"][:7] == bytes.fromhex("30770201010420")  # SEC1, not PKCS#8
            assert key.public_key() == x509.load_der_x509_certificate(row["certificate"]).public_key()
            assert row["device_uuid"] == device
            if with_sota:
                assert tomllib.loads(row["sota_toml"])["provision"]["primary_ecu_hardware_id"] == "imx8mm"


# sota.toml


@pytest.mark.parametrize("stored_as", FORMATS)
def test_sota_toml_says_what_option_and_row_say(stored_as: str, tmp_path: Path) -> None:
    make_pki(tmp_path / "two", gateway_host="gw.example.com", ostree_host="ostree.example.com")
    rows = [f"{UUIDS[0]},,,", f'{UUIDS[1]},rpi4,devel,"a,b"']
    manifest = csv_bytes(rows, "uuid,hardware_id,tag,apps")
    assert issue(manifest, "--tag", "main", "--pki", "two", "--format", stored_as).code == 0
    bundles = stored_bundles(Path("issued"))
    first, second = (tomllib.loads(bundles[device]["sota.toml"].decode()) for device in UUIDS[:2])
    gateway = "https://gw.example.com:8443"
    assert first == {
        "tls": {"server": gateway, "ca_source": "file", "pkey_source": "file", "cert_source": "file"},
        "provision": {"server": gateway, "primary_ecu_hardware_id": "imx8mm"},
        "uptane": {"repo_server": f"{gateway}/repo", "key_source": "file"},
        "pacman": {
            "type": "ostree+compose_apps",
            "ostree_server": "https://ostree.example.com:8443/ostree",
            "tags": "main",
            "compose_apps_root": "/var/sota/compose-apps",
            "reset_apps_root": "/var/sota/reset-apps",
        },
        "storage": {"type": "sqlite", "path": "/var/sota/"},
        "import": {
            "tls_cacert_path": "/var/sota/root.crt",
            "tls_pkey_path": "/var/sota/pkey.pem",
            "tls_clientcert_path": "/var/sota/client.pem",
        },
    }
    assert second["provision"]["primary_ecu_hardware_id"] == "rpi4"
    assert (second["pacman"]["tags"], second["pacman"]["compose_apps"]) == ("devel", "a,b")


@pytest.mark.parametrize(
    ("options", "gateway", "ostree"),
    [
        ((), "gw.example.com:8443", "ostree.example.com:8443"),
        (("--gateway", "g.example"), "g.example:8443", "g.example:8443"),
        (("--gateway", "g.example:1", "--ostree", "10.0.0.1:2"), "g.example:1", "10.0.0.1:2"),
        (("--ostree", "[::1]:65535"), "gw.example.com:8443", "[::1]:65535"),
    ],
)
def test_hosts_come_from_options_or_the_gateways_certificate(
    options: tuple[str, ...], gateway: str, ostree: str, tmp_path: Path
) -> None:
    make_pki(tmp_path / "two", gateway_host="gw.example.com", ostree_host="ostree.example.com")
    assert issue(csv_bytes(UUIDS[:1]), "--pki", "two", *options).code == 0
    found = tomllib.loads(Path("issued/bundles", UUIDS[0], "sota.toml").read_text())
    assert found["tls"]["server"] == f"https://{gateway}"
    assert found["pacman"]["ostree_server"] == f"https://{ostree}/ostree"


@pytest.mark.parametrize("stored_as", FORMATS)
def test_without_hosts_or_hardware_id_there_is_no_sota_toml_and_that_is_said_once(
    stored_as: str, tmp_path: Path
) -> None:
    make_ca_dir(tmp_path / "bare")
    ran = issue(csv_bytes(UUIDS), "--pki", "bare", "--format", stored_as)
    hosts = "warning: no gateway host is known (no tls-crt, no --gateway): bundles get no sota.toml\n"
    assert (ran.code, ran.err) == (0, hosts)
    Path("devices.csv").write_bytes(csv_bytes(UUIDS))
    ran = run("issue", "--manifest", "devices.csv", *SMALL, "--out", "other", "--format", stored_as)
    hardware = "warning: no hardware id is known (no --hardware-id, no such column): bundles get no sota.toml\n"
    assert (ran.code, ran.err) == (0, hardware)
    for out in ("issued", "other"):
        assert {tuple(sorted(files)) for files in stored_bundles(Path(out)).values()} == {tuple(sorted(FILES[:3]))}


TEXT = st.text(st.characters(codec="utf-8", exclude_characters=[*map(chr, range(32)), "\x7f"]), max_size=80)


@given(hardware_id=TEXT, tag=st.none() | TEXT, apps=st.none() | TEXT, default=st.none() | TEXT)
def test_any_text_that_a_row_may_bring_comes_back_out_of_sota_toml(
    hardware_id: str, tag: str | None, apps: str | None, default: str | None
) -> None:
    text = sota_toml(SotaSettings("g:1", "o:2", default, default), hardware_id=hardware_id, tag=tag, apps=apps)
    parsed = tomllib.loads(text.decode())
    assert parsed["provision"]["primary_ecu_hardware_id"] == hardware_id
    assert parsed["pacman"].get("tags", "") == (tag or "")
    assert parsed["pacman"].get("compose_apps", "") == (apps or "")
    values = [value for section in parsed.values() for value in section.values()]
    assert all(isinstance(value, str) for value in values)


# Reading parts back


def test_an_unknown_format_is_refused_by_the_list_of_known_ones() -> None:
    with pytest.raises(RefusedError, match=r"^format 'zip' is not known$") as caught:
        format_called("zip")
    assert caught.value.hint == "known formats: dir, p12, parquet, tar, tar.zst"


def read_part(stored_as: str, bundles: Path, location: str) -> list[Bundle]:
    return list(format_called(stored_as).read(bundles, location))


@pytest.mark.parametrize("stored_as", PACKED)
def test_a_packed_part_reads_back_as_it_is_stored_and_names_a_wrong_mode(stored_as: str) -> None:
    assert issue(csv_bytes(UUIDS), "--format", stored_as).code == 0
    name = f"part-00000.{stored_as}"
    bundles = Path("issued/bundles")
    expected = stored_bundles(Path("issued"))
    found = read_part(stored_as, bundles, name)
    assert {bundle.device_uuid: bundle.files for bundle in found} == {one: expected[one] for one in UUIDS[:3]}
    assert [bundle.problems for bundle in found] == [()] * 3
    (bundles / name).chmod(0o644)
    problems = {problem for bundle in read_part(stored_as, bundles, name) for problem in bundle.problems}
    assert problems == {f"the mode of {name} is 0644, expected 0600"}
    (bundles / name).rename("moved")
    (bundles / name).symlink_to(Path("moved").absolute())
    with pytest.raises(BundleError, match=rf"^{re.escape(name)} cannot be opened: Too many levels of symbolic links$"):
        read_part(stored_as, bundles, name)
    (bundles / name).unlink()
    with pytest.raises(BundleError, match=rf"^{re.escape(name)} cannot be opened: No such file or directory$"):
        read_part(stored_as, bundles, name)


@pytest.mark.parametrize("with_sota", [True, False])
@pytest.mark.parametrize("stored_as", PACKED)
def test_no_part_is_larger_than_the_plan_makes_room_for(stored_as: str, with_sota: bool) -> None:
    Path("devices.csv").write_bytes(csv_bytes([str(uuid4()) for _ in range(300)]))
    hardware = ("--hardware-id", "imx8mm") if with_sota else ()
    assert run("issue", "--manifest", "devices.csv", "--format", stored_as, *hardware).code == 0
    (part,) = Path("issued/bundles").iterdir()
    one = next(iter(format_called(stored_as).read(part.parent, part.name)))
    certificate, root = (
        len(x509.load_pem_x509_certificate(one.files[name]).public_bytes(Encoding.DER))
        for name in ("client.pem", "root.crt")
    )
    stored: Any = format_called(stored_as)
    room = stored.octets(300, certificate + 2, root, len(one.files.get("sota.toml", b"")))
    assert part.stat().st_size <= room <= 2 * part.stat().st_size


def test_a_folder_reads_back_with_what_is_wrong_with_it() -> None:
    assert issue(csv_bytes(UUIDS[:1])).code == 0
    bundles, device = Path("issued/bundles"), UUIDS[0]
    folder = bundles / device
    folder.chmod(0o755)
    (folder / "pkey.pem").chmod(0o640)
    (folder / "notes").write_text("")
    (folder / "root.crt").unlink()
    (folder / "root.crt").symlink_to("client.pem")
    (folder / "sota.toml").unlink()
    os.mkfifo(folder / "sota.toml")
    (bundle,) = read_part("dir", bundles, device)
    assert sorted(bundle.files) == ["client.pem", "pkey.pem"]
    assert bundle.problems == (
        f"the mode of {device}/ is 0755, expected 0700",
        f"{device}/notes does not belong there",
        f"the mode of {device}/pkey.pem is 0640, expected 0600",
        f"{device}/root.crt is not a regular file that can be read: Too many levels of symbolic links",
        f"{device}/sota.toml is not a regular file that can be read: it is of another kind",
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, factory_pki: Path) -> Path:
    """A folder with a part in each packed format."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "devices.csv").write_bytes(csv_bytes(UUIDS[:3]))
    for name in PACKED:
        options = ("--pki", factory_pki, "--out", folder / name, "--format", name)
        assert run("issue", "--manifest", folder / "devices.csv", *SMALL, *options).code == 0
        (folder / name / f"bundles/part-00000.{name}").rename(folder / f"part.{name}")
    return folder


@pytest.mark.parametrize("stored_as", PACKED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4),
    lost=st.just(0) | st.integers(0),
)
def test_a_damaged_part_is_refused_or_read_and_never_crashes(
    stored_as: str, changes: list[tuple[int, bytes]], lost: int, parts: Path, tmp_path: Path
) -> None:
    octets = bytearray((parts / f"part.{stored_as}").read_bytes())
    for place, change in changes:
        start = place % (len(octets) - len(change))
        octets[start : start + len(change)] = change
    path = tmp_path / f"part-00000.{stored_as}"
    path.write_bytes(octets[: len(octets) - lost % len(octets)])
    path.chmod(0o600)
    error = None
    try:
        found = read_part(stored_as, tmp_path, path.name)
    except BundleError as refusal:
        error = str(refusal)
    if error is not None:
        assert "\n" not in error
    else:
        assert all(set(bundle.files) <= set(FILES) for bundle in found)


@pytest.mark.parametrize("keep", [0, 100, 512, 1024, 3000, -1024, -1])
def test_a_tar_that_is_cut_off_is_refused(keep: int, parts: Path, tmp_path: Path) -> None:
    path = tmp_path / "part-00000.tar"
    path.write_bytes((parts / "part.tar").read_bytes()[:keep])
    path.chmod(0o600)
    with pytest.raises(BundleError, match=r"^part-00000\.tar is (cut off|not a whole tar file)"):
        read_part("tar", tmp_path, path.name)


@pytest.mark.parametrize("keep", [0, 3, 4, 12, 100, 700, -1024, -8, -1])
def test_a_compressed_tar_that_is_cut_off_is_refused(keep: int, parts: Path, tmp_path: Path) -> None:
    path = tmp_path / "part-00000.tar.zst"
    path.write_bytes((parts / "part.tar.zst").read_bytes()[:keep])
    path.chmod(0o600)
    with pytest.raises(BundleError, match=r"^part-00000\.tar\.zst is (cut off|not a whole (tar|zstd) file)"):
        read_part("tar.zst", tmp_path, path.name)


def test_a_compressed_tar_that_something_follows_is_refused(parts: Path, tmp_path: Path) -> None:
    whole = (parts / "part.tar.zst").read_bytes()
    path = tmp_path / "part-00000.tar.zst"
    more = pa.Codec("zstd").compress(bytes(512), asbytes=True)
    for what, wrong in ((b"\0", "zstd"), (b"PK\3\4", "zstd"), (more, "tar")):
        path.write_bytes(whole + what)
        path.chmod(0o600)
        with pytest.raises(BundleError, match=rf"^part-00000\.tar\.zst is not a whole {wrong} file"):
            read_part("tar.zst", tmp_path, path.name)


def test_a_compressed_tar_that_unpacks_to_far_more_is_read_to_a_bound(parts: Path, tmp_path: Path) -> None:
    folder = tarfile.TarInfo(f"{UUIDS[0]}/")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o700
    path = tmp_path / "part-00000.tar.zst"
    path.write_bytes(pa.Codec("zstd").compress(folder.tobuf(tarfile.USTAR_FORMAT) * 100_000, asbytes=True))
    path.chmod(0o600)
    read: list[Bundle] = []
    with pytest.raises(BundleError, match=r"is not a whole zstd file: an octet of it unpacks to more than 100$"):
        read.extend(format_called("tar.zst").read(tmp_path, path.name))
    assert len(read) * 512 < 110 * path.stat().st_size + 4096 + (1 << 16)


def test_a_disk_that_fails_is_no_damage(parts: Path) -> None:
    class Failing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    stored: Any = format_called("tar.zst")
    with pytest.raises(BundleError, match=r"^part cannot be read: .*Input/output error"):
        list(stored.bundles_in(Failing((parts / "part.tar.zst").read_bytes()), "part", ()))


def test_a_compressed_tar_is_the_tar(parts: Path) -> None:
    """What zstd itself unpacks is as long as the tar, and has its devices."""
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    packed = parts / "part.tar.zst"
    done = subprocess.run(["zstd", "--test", "--quiet", packed], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    octets = subprocess.run(["zstd", "-dc", packed], capture_output=True, check=True).stdout
    tar = (parts / "part.tar").stat().st_size
    assert len(octets) == tar
    with tarfile.open(fileobj=io.BytesIO(octets)) as archive:
        assert {name.partition("/")[0] for name in archive.getnames()} == set(UUIDS[:3])


@pytest.mark.parametrize(
    "name", ["../{}/pkey.pem", "{}/../pkey.pem", "/{}/pkey.pem", "{}/pkey.pem/x", "{}/other", "{}x/pkey.pem", "x"]
)
def test_members_with_other_names_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "part-00000.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(name.format(UUIDS[0])))
    path.chmod(0o600)
    with pytest.raises(BundleError):
        read_part("tar", tmp_path, path.name)


def test_a_link_in_a_tar_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(f"{UUIDS[0]}/pkey.pem")
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, "/etc/shadow", 0o600
        archive.addfile(member)
    path.chmod(0o600)
    with pytest.raises(BundleError, match="is of another kind than expected"):
        read_part("tar", tmp_path, path.name)


def test_a_link_planted_as_a_devices_folder_is_not_read() -> None:
    assert issue(csv_bytes(UUIDS[:2])).code == 0
    first, second = (Path("issued/bundles", device) for device in UUIDS[:2])
    first.rename("moved")
    first.symlink_to(second.absolute())
    before = contents(Path("issued"))
    with pytest.raises(BundleError, match=rf"^{UUIDS[0]} cannot be opened as a folder: "):
        read_part("dir", Path("issued/bundles"), UUIDS[0])
    assert contents(Path("issued")) == before
