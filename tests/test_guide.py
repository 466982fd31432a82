"""The vendor's guide, step by step, from an empty folder: a factory set up, run, rehearsed and repaired."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from csrs import csr_manifest, forms_of
from gateways import TOKEN, serving
from judges import Ran, run

if TYPE_CHECKING:
    from pathlib import Path

    from gateways import Serving

ONLINE = "0d9a6a52-6c7f-4f5e-9d39-3c1f0a7b8c01"
LATER = "0d9a6a52-6c7f-4f5e-9d39-3c1f0a7b8c02"


class Factory:
    """One factory: its folder, its vendor's servers, and the commands that its people give."""

    def __init__(self, folder: Path, server: Serving) -> None:
        self.folder, self.server = folder, server
        self.pki = folder / "pki"
        (folder / "token").write_text(f"{TOKEN}\n")

    def ca(self, command: str, *arguments: str | Path, pki: Path | None = None) -> Ran:
        return run(
            "ca", command, pki or self.pki, *arguments, "--api", self.server.api, "--token-file", self.folder / "token"
        )

    def issue(self, name: str, devices: int, *arguments: str) -> Ran:
        uuids = [f"{len(name):08x}-0000-4000-8000-{ord(name[0]):04x}{i:08x}" for i in range(devices)]
        lines = ["device_uuid,name,group", *(f"{uuid},{name}-{i},site" for i, uuid in enumerate(uuids))]
        (self.folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        manifest = ("--manifest", self.folder / f"{name}.csv", "--pki", self.pki, "--out", self.folder / name)
        return run("issue", *manifest, "--hardware-id", "imx8mm", "--days", "3000", "--workers", "2", *arguments)

    def probe(self, name: str) -> tuple[int, dict[str, int]]:
        """The exit code of a probe, and how many devices failed by which code."""
        done = run("gateway", "probe", self.folder / name, "--gateway", self.server.host_port, "--json")
        report = json.loads(done.out)
        return done.code, {failures["code"]: failures["count"] for failures in report["failures"]}

    def register_online(self, uuid: str) -> Path:
        """What lmp-device-register does on a device: a key, a request for its certificate, an answer to be kept."""
        sota = self.folder / uuid
        sota.mkdir()
        subject = f"/CN={uuid}/OU=acme"
        new = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        wanted = ["-addext", "keyUsage=critical,digitalSignature", "-addext", "extendedKeyUsage=critical,clientAuth"]
        subprocess.run([*new, *wanted, "-subj", subject, "-keyout", "pkey.pem", "-out", "device.csr"],
                       cwd=sota, check=True, capture_output=True)  # fmt: skip
        body = {
            "use-ostree-server": "true",
            "sota-config-dir": "/var/sota",
            "hardware-id": "imx8mm",
            "name": f"online-{uuid[-2:]}",
            "uuid": uuid,
            "csr": (sota / "device.csr").read_text(),
            "overrides": {"pacman": {"type": '"ostree+compose_apps"', "tags": '"main"'}},
        }
        answer = self.server.ask("POST", "/ota/devices/", body)
        assert answer.status == 201, answer.text
        for file, text in answer.json.items():
            (sota / file).write_text(text)
        return sota

    def connect(self, sota: Path, path: str = "/device") -> tuple[int, dict[str, object]]:
        """What a device's own software does: mutual TLS by its files, the gateway's name out of its root."""
        context = ssl.create_default_context(cafile=str(sota / "root.crt"))
        context.load_cert_chain(sota / "client.pem", sota / "pkey.pem")
        context.check_hostname = False  # its name is not the address's; that it is right is `gateway probe`'s to see
        connection = http.client.HTTPSConnection(*self.server.address, context=context, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def serial(path: Path) -> int:
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def test_the_guide(tmp_path: Path) -> None:
    with serving(tmp_path / "vendor") as server:
        factory = Factory(tmp_path, server)
        assert server.gateway is None
        set_up(factory)
        first_devices(factory)
        a_device_online(factory)
        a_second_site(factory)
        a_ca_is_disabled_and_revoked(factory)
        the_gateway_gets_another_certificate(factory)
        a_ca_is_brought_back(factory)
        devices_are_known_before_they_come(factory)
        everything_survives_a_restart(factory, server)


def set_up(factory: Factory) -> None:
    """The PKI, with keys of the vendor's that never leave its servers; and only once."""
    nothing = run(
        "ca", "show", "--factory", "acme", "--api", factory.server.api, "--token-file", factory.folder / "token"
    )
    assert nothing.code == 2
    assert "the factory has no PKI yet" in nothing.err
    created = factory.ca("create", "--factory", "acme")
    assert created.code == 0, created.err
    assert "The factory's API has the certificates." in created.err
    assert not (factory.pki / "gateway").exists()
    factory.server.wait_gateway()
    again = factory.ca("create", "--factory", "acme")
    assert again.code == 2
    elsewhere = factory.ca("create", "--factory", "acme", pki=factory.folder / "another")
    assert elsewhere.code == 1
    assert not (factory.folder / "another").exists()
    shown = factory.ca("show", "--just-device-cas")
    assert shown.out.encode() == (factory.pki / "ca-crt").read_bytes()
    assert factory.ca("show", "--just-root").out.encode() == (factory.pki / "factory_ca.pem").read_bytes()


def first_devices(factory: Factory) -> None:
    """Offline devices: the gateway meets them first at their first request."""
    assert factory.issue("first", 30).code == 0
    assert run("verify", factory.folder / "first", "--pki", factory.pki).code == 0
    assert devices(factory) == set()
    assert factory.probe("first") == (0, {})
    assert len(devices(factory)) == 30


def devices(factory: Factory) -> set[str]:
    listed = factory.server.ask("GET", "/ota/devices/?limit=1000").json
    return {device["uuid"] for device in listed["devices"]}


def a_device_online(factory: Factory) -> None:
    """A device that registers itself, by the online-ca."""
    sota = factory.register_online(ONLINE)
    assert (sota / "root.crt").read_bytes() == (factory.pki / "factory_ca.pem").read_bytes()
    certificate = x509.load_pem_x509_certificate((sota / "client.pem").read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((factory.pki / "online-crt").read_bytes()))
    status, device = factory.connect(sota)
    assert (status, device["uuid"]) == (200, ONLINE)
    status, root = factory.connect(sota, "/repo/1.root.json")
    assert (status, root["signed"]["_type"]) == (200, "root")  # type: ignore[index]


def a_second_site(factory: Factory) -> None:
    assert factory.issue("early", 3).code == 0
    assert factory.ca("add-device-ca", "--local-ca", "--local-ca-filename", "site2.pem").code == 0
    assert factory.issue("second", 10, "--ca-name", "site2").code == 0
    assert factory.probe("second") == (0, {})


def a_ca_is_disabled_and_revoked(factory: Factory) -> None:
    """Disabled: old devices go on, new ones are refused. Revoked: nobody of its devices comes in; all others do."""
    assert factory.ca("disable-device-ca", "--ca-file", "local-ca").code == 0
    assert factory.probe("first") == (0, {})
    code, failed = factory.probe("early")
    assert (code, sum(failed.values())) == (4, 3)
    refused = factory.issue("refused", 1)
    assert refused.code == 2
    assert "local-ca.pem is disabled" in refused.err
    shown = json.loads(factory.ca("show", "--json").out)
    assert {ca["serial_number"]: ca["state"] for ca in shown["device_cas"]}[
        str(serial(factory.pki / "local-ca.pem"))
    ] == "disabled"
    assert factory.ca("enable-device-ca", "--ca-file", "local-ca").code == 0
    assert factory.probe("early") == (0, {})
    assert factory.ca("revoke-device-ca", "--ca-file", "local-ca").code == 0
    code, failed = factory.probe("first")
    assert (code, failed) == (4, {"client-refused": 30})
    assert factory.probe("second") == (0, {})
    assert factory.connect(factory.folder / ONLINE)[0] == 200
    assert "local-ca.pem is revoked" in factory.issue("refused", 1).err


def the_gateway_gets_another_certificate(factory: Factory) -> None:
    """No device is lost by it: they trust the root."""
    before = presented(factory)
    assert factory.ca("rotate-tls").code == 0
    assert presented(factory) == serial(factory.pki / "tls-crt") != before == serial(factory.pki / "tls-crt.bak")
    assert factory.probe("second") == (0, {})
    assert factory.connect(factory.folder / ONLINE)[0] == 200


def presented(factory: Factory) -> int:
    """The serial number of the certificate that the gateway shows."""
    context = ssl.create_default_context(cafile=str(factory.pki / "factory_ca.pem"))
    context.check_hostname = False
    connection = http.client.HTTPSConnection(*factory.server.address, context=context, timeout=20)
    try:
        connection.connect()
        der = connection.sock.getpeercert(binary_form=True)
        assert isinstance(der, bytes)
        return x509.load_der_x509_certificate(der).serial_number
    finally:
        connection.close()


def a_ca_is_brought_back(factory: Factory) -> None:
    listed = (factory.pki / "ca-crt").read_bytes() + (factory.pki / "local-ca.pem").read_bytes()
    (factory.folder / "cas.pem").write_bytes(listed)
    assert factory.ca("update", factory.folder / "cas.pem").code == 0
    assert factory.probe("first") == (0, {})
    assert factory.issue("later", 2).code == 0
    assert factory.ca("add-device-ca", "--online-ca").code == 0
    factory.register_online(LATER)
    assert factory.connect(factory.folder / LATER)[0] == 200
    assert factory.connect(factory.folder / ONLINE)[0] == 200


def devices_are_known_before_they_come(factory: Factory) -> None:
    assert factory.issue("ahead", 5, "--ca-name", "site2").code == 0
    arguments = ("--api", factory.server.api, "--token-file", factory.folder / "token")
    done = run("register", factory.folder / "ahead", *arguments)
    assert done.code == 0, done.err
    listed = factory.server.ask("GET", "/ota/devices/?limit=1000").json["devices"]
    assert {device["name"] for device in listed} >= {f"ahead-{i}" for i in range(5)}
    assert factory.probe("ahead") == (0, {})
    assert run("verify", factory.folder / "ahead", "--pki", factory.pki).code == 0


def everything_survives_a_restart(factory: Factory, server: Serving) -> None:
    server.kill()
    with serving(factory.folder / "vendor") as restarted:
        factory.server = restarted
        restarted.wait_gateway()
        for name in ("first", "second", "later", "ahead"):
            assert factory.probe(name) == (0, {})
        assert factory.connect(factory.folder / ONLINE)[0] == 200


def test_standing_alone(tmp_path: Path) -> None:
    """The same without a vendor: the directory holds the gateway's keys, and a rehearsal runs on it."""
    hosts = ("--gateway-host", "gw.acme.example", "--ostree-host", "os.acme.example")
    assert run("ca", "create", tmp_path / "pki", "--factory", "acme", *hosts).code == 0
    with serving(tmp_path / "vendor", pki=tmp_path / "pki") as server:
        factory = Factory(tmp_path, server)
        server.wait_gateway()
        assert factory.issue("first", 5, "--format", "tar").code == 0
        assert factory.probe("first") == (0, {})
        factory.register_online(ONLINE)
        assert factory.connect(tmp_path / ONLINE)[0] == 200


def test_devices_that_keep_their_keys_are_not_probed(tmp_path: Path) -> None:
    assert run("ca", "create", tmp_path / "pki", "--factory", "acme", "--gateway-host", "gw.acme.example").code == 0
    uuids = [f"00000000-0000-4000-8000-{i:012x}" for i in range(1, 7)]
    for name, every in (("mixed", 2), ("kept", 1)):
        (tmp_path / f"{name}.csv").write_bytes(csr_manifest(uuids, forms_of(uuids, every)))
        manifest = ("--manifest", tmp_path / f"{name}.csv", "--pki", tmp_path / "pki", "--out", tmp_path / name)
        assert run("issue", *manifest, "--hardware-id", "imx8mm", "--days", "3000").code == 0
    with serving(tmp_path / "vendor", pki=tmp_path / "pki") as server:
        server.wait_gateway()
        probed = run("gateway", "probe", tmp_path / "mixed", "--gateway", server.host_port)
        assert probed.code == 0
        assert probed.out.startswith("3 of 3 devices probed at ")
        refused = run("gateway", "probe", tmp_path / "kept", "--gateway", server.host_port)
        assert refused.code == 2
        assert "no device is there whose key the run made; those that keep theirs cannot be probed" in refused.err


@pytest.mark.parametrize("arguments", [("--token-file", "wrong"), ()])
def test_nobody_without_the_token(tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong").write_text("guessed-token")
    with serving(tmp_path / "vendor") as server:
        done = run("ca", "create", "pki", "--factory", "acme", "--api", server.api, *arguments)
        assert done.code == (1 if arguments else 2)
        assert "token" in done.err
        assert "guessed-token" not in done.err
        assert not (tmp_path / "pki").exists()
        assert server.ask("GET", "/ota/factories/acme/certs/").status == 206
