"""Whole chains under the eyes of others: OpenSSL's strict mode and GnuTLS. Go's rules are in test_go_rules.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from csrs import csr_manifest, forms_of
from every_kind import OTHER, UUID, make_every_kind
from judges import device_uuids, issue
from mutants import MATRIX, good_certificate, make_authority, mutant, signature_mutants

if TYPE_CHECKING:
    from collections.abc import Callable

    Judge: TypeAlias = Callable[..., bool]
    """Whether a chain holds: the root, what is between, the leaf; and its purpose, `client`, `server` or None."""

CERTTOOL = shutil.which("certtool")
OPENSSL_PURPOSES = {"client": "sslclient", "server": "sslserver", None: "any"}
GNUTLS_PURPOSES = {"client": "1.3.6.1.5.5.7.3.2", "server": "1.3.6.1.5.5.7.3.1"}


def by_openssl(root: Path, between: Path | None, leaf: Path, purpose: str | None) -> bool:
    command = ["openssl", "verify", "-x509_strict", "-purpose", OPENSSL_PURPOSES[purpose], "-CAfile", str(root)]
    command += ["-untrusted", str(between)] if between else []
    done = subprocess.run([*command, str(leaf)], capture_output=True, check=False, text=True, timeout=60)
    return done.returncode == 0 and done.stdout == f"{leaf}: OK\n"


def by_gnutls(root: Path, between: Path | None, leaf: Path, purpose: str | None) -> bool:
    assert CERTTOOL is not None
    command = [CERTTOOL, "--verify", "--load-ca-certificate", str(root), "--verify-profile=medium"]
    command += [f"--verify-purpose={GNUTLS_PURPOSES[purpose]}"] if purpose else []
    chain = leaf.read_bytes() + (between.read_bytes() if between else b"")
    done = subprocess.run(command, input=chain, capture_output=True, check=False, timeout=60)
    return done.returncode == 0 and b"Chain verification output: Verified." in done.stdout


@pytest.fixture(params=["openssl", "gnutls"])
def judge(request: pytest.FixtureRequest) -> Judge:
    if request.param == "gnutls" and CERTTOOL is None:
        if "BATCH_ISSUER_TEST_GNUTLS" in os.environ:
            pytest.fail("there is no certtool, and this test was asked for")
        pytest.skip("there is no certtool here (Debian's gnutls-bin)")
    return by_openssl if request.param == "openssl" else by_gnutls


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_every_kind(tmp_path_factory.mktemp("chains"))


def test_all_that_the_root_signs_holds(made: Path, judge: Judge) -> None:
    pki = made / "pki"
    root = pki / "factory_ca.pem"
    below = {"local-ca.pem": None, "site2.pem": None, "el2go.pem": None, "online-crt": None, "batch-signer.pem": None}
    found = {file: judge(root, None, pki / file, purpose) for file, purpose in below.items()}
    found |= {file: judge(root, None, pki / file, "server") for file in ("tls-crt", "est.pem")}
    assert found == dict.fromkeys([*below, "tls-crt", "est.pem"], True)


def test_devices_hold_as_clients_and_as_nothing_else(made: Path, judge: Judge) -> None:
    root, ca = made / "pki" / "factory_ca.pem", made / "pki" / "local-ca.pem"
    for uuid in (UUID, OTHER):
        leaf = made / "out" / "bundles" / uuid / "client.pem"
        assert judge(root, ca, leaf, "client")
        assert not judge(root, ca, leaf, "server")
        assert not judge(root, made / "pki" / "site2.pem", leaf, "client")


def test_devices_that_keep_their_keys_hold(work: Path, judge: Judge) -> None:
    uuids = device_uuids(4)
    assert issue(csr_manifest(uuids, forms_of(uuids))).code == 0
    root, ca = work / "pki" / "factory_ca.pem", work / "pki" / "local-ca.pem"
    assert [judge(root, ca, Path("issued/bundles", uuid, "client.pem"), "client") for uuid in uuids] == [True] * 4


@pytest.mark.parametrize("what", ["good", "expired", "issuer DN wrong", "EKU serverAuth only", "subject edited"])
def test_what_is_wrong_does_not(tmp_path: Path, judge: Judge, what: str) -> None:
    authority = make_authority()
    good = good_certificate(authority)
    made = {"good": good, "subject edited": signature_mutants(authority, good)["subject edited"][1]}
    der = made[what] if what in made else mutant(authority, good, MATRIX[what][1])
    files = {"root": authority.root_der, "ca": authority.ca_der, "leaf": der}
    for file, octets in files.items():
        (tmp_path / file).write_bytes(x509.load_der_x509_certificate(octets).public_bytes(Encoding.PEM))
    assert judge(tmp_path / "root", tmp_path / "ca", tmp_path / "leaf", "client") == (what == "good")
