"""Whole output folders, made part by part with the program's own rooms, and wrong where a test wants them wrong."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from mutants import FACTORY, NOT_AFTER, NOT_BEFORE, Authority

from batch_issuer.bundles.contents import PartBundles, certificate_pem
from batch_issuer.bundles.sealed import writable_format
from batch_issuer.bundles.sota import SotaSettings, sota_toml
from batch_issuer.devices import CertificateDer, MintedPart
from batch_issuer.files import PUBLIC_MODE, write_new
from batch_issuer.minting.keys import key_engine
from batch_issuer.minting.mint import Mint
from batch_issuer.minting.reference import DeviceIssuance
from batch_issuer.output.folder import OutputFolder, part_name
from batch_issuer.output.manifest import ManifestWriter
from batch_issuer.output.record import RunRecord
from batch_issuer.output.rows import commit_table, encode_commit
from batch_issuer.profiles import ValidityWindow
from batch_issuer.verification.anchors import Anchors
from batch_issuer.verification.run import verify_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_issuer.minting.keys import KeyEngine
    from batch_issuer.verification.run import Report

DEVICES, PART_SIZE, INPUT_ROWS = 12, 5, 14
REJECTED = (3, 9)
ROWS = [row for row in range(1, INPUT_ROWS + 1) if row not in REJECTED]
UUIDS = [f"{index:08x}-0000-4000-8000-{index:012x}" for index in range(1, DEVICES + 1)]


@dataclass
class MadeRun:
    """An output folder and what is in it."""

    out: Path
    record: RunRecord
    authority: Authority
    parts: list[MintedPart] = field(default_factory=list)

    @property
    def folder(self) -> OutputFolder:
        return OutputFolder(self.out)

    @property
    def manifest(self) -> Path:
        return self.folder.manifest(self.record.manifest_format)


@dataclass(frozen=True)
class Making:
    """What a test wants to be different from a good run.

    Attributes:
        values: of the record.
        carried: columns carried through, with a value per device.
        csrs: a PEM text for each device that brings its key.
        engine: makes the keys.
        random: makes the serial numbers.
        stored: changes what is stored of each part, after the part's rows were written.
        committed: parts to commit; fewer than all make an unfinished run.
        published: of these, parts to publish.
    """

    values: dict[str, Any] = field(default_factory=dict)
    carried: dict[str, list[Any]] = field(default_factory=dict)
    csrs: dict[str, bytes] = field(default_factory=dict)
    engine: KeyEngine | None = None
    random: Callable[[int], bytes] | None = None
    stored: Callable[[PartBundles], PartBundles] = lambda part: part
    committed: int = 3
    published: int = 3


def make_run(out: Path, authority: Authority, format_name: str, making: Making | None = None) -> MadeRun:
    """Issue `UUIDS` into `out`, in three parts."""
    making = making or Making()
    run = MadeRun(out, _record(authority, format_name, {"csr_rows": len(making.csrs)} | making.values), authority)
    folder = run.folder
    for place in (folder.path, folder.bundles, folder.work, folder.staging, folder.commits):
        place.mkdir(mode=0o700)
    write_new(folder.record, [run.record.to_json()], PUBLIC_MODE)
    mint = _mint(run, making)
    tables = []
    for index in range(making.committed):
        csrs = [making.csrs.get(uuid) for uuid in UUIDS[_part(index)]] if making.csrs else None
        run.parts.append(mint.part(_uuids(index), _flags(run.record, making, index), csrs))
        tables.append(_store(run, making, index))
    if making.committed == run.record.parts:
        _finish(run, tables)
    return run


def _record(authority: Authority, format_name: str, values: dict[str, Any]) -> RunRecord:
    record: dict[str, Any] = {
        "version": "0",
        "manifest": "devices.csv",
        "manifest_sha256": "00" * 32,
        "manifest_kind": "csv",
        "rows": INPUT_ROWS,
        "accepted": DEVICES,
        "csr_rows": 0,
        "skip_rejects": True,
        "factory": FACTORY,
        "ca_name": "local-ca",
        "ca_certificate": authority.ca.public_bytes(Encoding.PEM).decode(),
        "root_certificate": authority.root.public_bytes(Encoding.PEM).decode(),
        "ledger_run": None,
        "reissue": False,
        "signer": None,
        "signer_certificate": None,
        "format": format_name,
        "p12_passwords": None,
        "seal_to": (),
        "part_size": PART_SIZE,
        "days": 7300,
        "backdate": 3600,
        "not_before": f"{NOT_BEFORE:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{NOT_AFTER:%Y-%m-%dT%H:%M:%SZ}",
        "production": False,
        "gateway": "gw.example.com:8443",
        "ostree": "ostree.example.com:8443",
        "hardware_id": "imx8mm",
        "tag": "main",
        "device_hsm_module": None,
        "manifest_format": "parquet" if format_name == "parquet" else "csv",
        "with_certificates": False,
        "spreadsheet_safe": False,
    }
    return RunRecord(**(record | values))


def _mint(run: MadeRun, making: Making) -> Mint:
    identifier = run.authority.ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    window = ValidityWindow(run.record.starts, run.record.ends)
    issuance = DeviceIssuance(run.authority.ca.subject, identifier, FACTORY, window)
    key = run.authority.ca_key

    def sign(data: bytes, /) -> bytes:
        return key.sign(data, ec.ECDSA(hashes.SHA256()))

    engine = making.engine or key_engine("openssl")
    if making.random is not None:
        return Mint(issuance, engine, sign, key.public_key(), random=making.random)
    return Mint(issuance, engine, sign, key.public_key())


def _part(index: int) -> slice:
    return slice(index * PART_SIZE, (index + 1) * PART_SIZE)


def _uuids(index: int) -> list[bytes]:
    return [uuid.encode() for uuid in UUIDS[_part(index)]]


def _flags(record: RunRecord, making: Making, index: int) -> list[bool]:
    said = making.carried.get("production", [None] * DEVICES)[_part(index)]
    return [record.production if flag is None else bool(flag) for flag in said]


def _store(run: MadeRun, making: Making, index: int) -> pa.Table:
    record, part, folder = run.record, run.parts[index], run.folder
    stored = writable_format(record.format, record.seal_to)
    root = CertificateDer(run.authority.root_der)
    sota = None if record.gateway is None else _sota(record, making, index)
    bundles = making.stored(PartBundles(part.device_uuids, part.private_keys, part.certificates, root, sota))
    attempt = folder.attempt(index, f"{index:08x}")
    attempt.mkdir(mode=0o700)
    staged = stored.stage(bundles, attempt, part_name(index))
    certificates = [certificate_pem(one).decode() for one in part.certificates] if record.with_certificates else None
    table = commit_table(
        pa.array(ROWS[_part(index)], pa.int64()),
        pa.array(UUIDS[_part(index)], pa.string()),
        part,
        (record.starts, record.ends),
        stored.locations(part_name(index), part.device_uuids),
        certificates=certificates,
        key_origins=_key_origins(making, index),
        carried={name: pa.array(values)[_part(index)] for name, values in making.carried.items()},
    )
    sums = [*staged.sums, *[b""] * (len(table) - len(staged.sums))]
    write_new(folder.commit(index), [encode_commit(table, sums, f"{index:08x}")], 0o600)
    if index < making.published:
        stored.publish(attempt, folder.bundles, part_name(index), bundles.device_uuids)
    return table


def _key_origins(making: Making, index: int) -> pa.Array | None:
    if not making.csrs:
        return None
    return pa.array(["csr" if uuid in making.csrs else "made" for uuid in UUIDS[_part(index)]])


def _sota(record: RunRecord, making: Making, index: int) -> list[bytes]:
    assert record.gateway is not None
    assert record.ostree is not None
    settings = SotaSettings(record.gateway, record.ostree, device_hsm_module=record.device_hsm_module)
    texts = []
    for place in range(DEVICES)[_part(index)]:
        hardware_id, tag, apps = (
            making.carried[name][place] if name in making.carried else None for name in ("hardware_id", "tag", "apps")
        )
        named = hardware_id or record.hardware_id or ""
        texts.append(sota_toml(settings, hardware_id=named, tag=tag or record.tag, apps=apps))
    return texts


def _finish(run: MadeRun, tables: list[pa.Table]) -> None:
    kind = run.record.manifest_format
    with ManifestWriter(run.manifest, kind, spreadsheet_safe=run.record.spreadsheet_safe) as manifest:
        for table in tables:
            manifest.write(table)
    rejects = [f"{row},device_uuid,x,uuid-malformed,\"row {row}, column 'device_uuid': no UUID\"\n" for row in REJECTED]
    text = "row,column,value,code,message\n" + "".join(rejects) + rejects[0]
    write_new(run.folder.rejects, [text.encode()], PUBLIC_MODE)
    write_new(run.folder.summary, [json.dumps(_summary(run.record)).encode()], PUBLIC_MODE)
    for path in sorted(run.folder.work.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    run.folder.work.rmdir()
    sum_up(run)


def verify_sealed(run: MadeRun, **options: Any) -> Report:
    """Verify a run whose SHA256SUMS agrees with whatever was done to it, so that another check has to find that.

    Where rows of the manifest are wrong, lines stand beside the rows that they belong to; test_sums.py is about lines.
    """
    if run.folder.summary.exists():
        sum_up(run)
    trusted: dict[str, Any] = {"anchors": Anchors(run.authority.ca_der, run.authority.root_der), "workers": 1}
    report = verify_run(run.out, **(trusted | options))
    misplaced = {"sums-no-line", "sums-no-file"}
    return replace(
        report,
        counts={code: count for code, count in report.counts.items() if code not in misplaced},
        findings=tuple(finding for finding in report.findings if finding.code not in misplaced),
    )


def sum_up(run: MadeRun) -> None:
    """Write SHA256SUMS over what is there now: damage done before is no more seen by it."""
    names = UUIDS if run.record.format == "dir" else [f"{part_name(i)}.{run.record.format}" for i in range(3)]
    places = [run.folder.bundles / name for name in names]
    paths = [path for place in places for path in (sorted(place.iterdir()) if place.is_dir() else [place])]
    paths += [run.manifest, run.folder.rejects, run.folder.record, run.folder.summary]
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(run.out)}\n"
        for path in paths
        if path.is_file() and not path.is_symlink() and not path.parent.is_symlink() and path.stat().st_size < 1 << 30
    ]
    run.folder.sums.unlink(missing_ok=True)
    write_new(run.folder.sums, ["".join(lines).encode()], PUBLIC_MODE)


def _summary(record: RunRecord) -> dict[str, Any]:
    counts = {
        "devices": record.accepted,
        "csr_rows": record.csr_rows,
        "rejected": record.rows - record.accepted,
        "parts": record.parts,
    }
    return counts | {"format": record.format, "not_before": record.not_before, "not_after": record.not_after}
