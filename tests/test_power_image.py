"""Power cuts on a real file system: ext4 in an image, copied while a run writes; the copy is what a cut leaves.

The run stands still while the image is copied, and is copied again until two copies are the same: then nothing was
written meanwhile, and the copy is a state that the disk had. It is mounted, which replays its journal, audited,
resumed and audited again.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import audit
import pytest
import runs
from chaos import LONG, tell
from cryptography import x509
from pki import make_pki

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CUTS = 25
DEVICES = 3000
NO_FSYNC = "import os\nos.fsync = lambda _: None\n"

pytestmark = pytest.mark.skipif(not LONG, reason="a part of make syscalls")


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    # The journal is committed every second, and by nothing but that and fsync.
    mount = ["mount", "--options", "loop,commit=1", str(image), str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("images cannot be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def new_image(path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("root makes and mounts images, by mkfs.ext4")
    with path.open("wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(path)], check=True)


def copied(image: Path, copy: Path) -> None:
    """Copy it until nothing has changed in between."""
    for _ in range(20):
        first = copy.with_suffix(".first")
        shutil.copyfile(image, first)
        shutil.copyfile(image, copy)
        if filecmp.cmp(first, copy, shallow=False):
            return
    raise AssertionError("the image never stood still")


def cut(image: Path, folder: Path, arguments: list[str], seconds: float) -> tuple[set[str], Path]:
    """Run on the image, cut the power after a while: the devices whose bundles were in place, and the disk's copy."""
    copy = folder / "copy.img"
    with mounted(image, folder / "disk") as disk:
        process = runs.start(arguments)
        try:
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGSTOP)
            in_place = set(audit.visible(disk / "out", {})) if (disk / "out").exists() else set()
            copied(image, copy)
        finally:
            runs.kill_group(process)
    return in_place, copy


def prepared(tmp_path: Path) -> tuple[list[str], x509.Certificate]:
    pki, manifest = tmp_path / "pki", tmp_path / "devices.parquet"
    pki.mkdir()
    make_pki(pki)
    wanted = runs.write_manifest(manifest, DEVICES)
    return wanted, x509.load_pem_x509_certificate((pki / "local-ca.pem").read_bytes())


def arguments_for(tmp_path: Path, kind: str) -> list[str]:
    options = ["--format", kind, "--part-size", "50", "--workers", "2", "--quiet", "--resume", "--no-lint"]
    return runs.issue_arguments(tmp_path / "devices.parquet", tmp_path / "pki", tmp_path / "disk/out", *options)


@pytest.mark.parametrize("kind", ["dir", "tar", "parquet"])
def test_what_was_in_place_when_the_power_went_is_there_and_the_rest_is_resumed(kind: str, tmp_path: Path) -> None:
    wanted, ca = prepared(tmp_path)
    random, image, between = Random(kind), tmp_path / "disk.img", 0
    for _ in range(CUTS):
        new_image(image)
        in_place, copy = cut(image, tmp_path, arguments_for(tmp_path, kind), random.uniform(0.35, 1.1))
        between += 0 < len(in_place) < DEVICES
        with mounted(copy, tmp_path / "disk") as disk:
            before = audit.check_interrupted(disk / "out") if (disk / "out").exists() else {}
            assert in_place <= set(before), "a bundle that was in place is not issued after the power cut"
            again = runs.run(arguments_for(tmp_path, kind))
            assert again.returncode == 0, again.stderr
            audit.check_finished(disk / "out", wanted, ca, before)
    assert between > CUTS / 2, "most cuts were before the first bundle or after the last"
    tell(f"power cut, ext4 image, {kind}", CUTS, CUTS * DEVICES)


def test_a_run_that_does_not_sync_loses_devices_on_a_real_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(tmp_path)
    image = tmp_path / "disk.img"
    (tmp_path / "flaw").mkdir()
    (tmp_path / "flaw" / "sitecustomize.py").write_text(NO_FSYNC)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "flaw"))
    for seconds in (0.7, 0.9, 1.1, 1.3):
        new_image(image)
        in_place, copy = cut(image, tmp_path, arguments_for(tmp_path, "tar"), seconds)
        with mounted(copy, tmp_path / "disk") as disk:
            try:
                before = audit.check_interrupted(disk / "out") if (disk / "out").exists() else {}
            except Exception:  # whatever the audit stumbles over
                return
            if not in_place <= set(before):
                return
    raise AssertionError("nothing was lost without a single fsync")
