"""What many tests stand on: a good PKI, and an empty working directory beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pki import make_pki
from small_runs import small_run

if TYPE_CHECKING:
    from pathlib import Path

    from batch_issuer.batch.request import RunRequest

pytest.register_assert_rewrite("judges")

os.environ["BATCH_ISSUER_LINT"] = "0"  # 0.2 s of a core per run; test_lint.py asks for it


@pytest.fixture(scope="session")
def factory_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good PKI of the program's own, for reading only."""
    return make_pki(tmp_path_factory.mktemp("factory") / "pki")


@pytest.fixture
def work(tmp_path: Path, factory_pki: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: empty but for `pki`, and nothing in the environment that the program would heed."""
    for name in ("PKI", "CA_PASSPHRASE", "HSM_PIN", "P12_PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"BATCH_ISSUER_{name}", raising=False)
    (tmp_path / "pki").symlink_to(factory_pki)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(tmp_path: Path) -> RunRequest:
    """A small run."""
    return small_run(tmp_path)
