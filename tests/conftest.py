"""What many tests stand on: a good PKI, and an empty working directory beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from pki import make_pki

if TYPE_CHECKING:
    from pathlib import Path

pytest.register_assert_rewrite("judges")

os.environ["BATCH_ISSUER_LINT"] = "0"  # 0.2 s of a core per run; test_lint.py asks for it


@pytest.fixture(scope="session")
def factory_pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good PKI of the program's own, for reading only."""
    return make_pki(tmp_path_factory.mktemp("factory") / "pki")


@pytest.fixture
def work(tmp_path: Path, factory_pki: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: empty but for `pki`, and nothing in the environment that the program would heed."""
    for variable in ("BATCH_ISSUER_PKI", "BATCH_ISSUER_CA_PASSPHRASE", "BATCH_ISSUER_HSM_PIN"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "pki").symlink_to(factory_pki)
    monkeypatch.chdir(tmp_path)
    return tmp_path
