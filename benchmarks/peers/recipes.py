"""How each peer does the task: a P-256 key and a certificate for each device, as files, by the same CA.

A recipe is shell, as its users have it. It is given `$PKI` (the folder of the CA, local-ca.pem and local-ca.key),
`$uuid`, and a working folder of its own, which `setup` has prepared, outside of what is measured. Subject, extensions
and days are the factory's device profile as closely as the tool lets them be.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peers.loops import DAYS

__all__ = ["PEERS", "Peer", "lacking"]

_EXTENSIONS = """keyUsage = critical, digitalSignature
extendedKeyUsage = critical, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to issue for devices.

    Attributes:
        name: what it is called in tables.
        steps: what runs for a device, in words.
        needs: programs that must be there; `python:` before the name of a Python package.
        source: where to get it.
        version: a command whose output names the version.
        each: shell, run for each `$uuid`.
        setup: shell, run once before.
        sign: shell that makes signed.pem of the CSR in `$csr`; empty if it takes none.
        key: the file of a device's key, below the working folder; `{}` is the UUID.
        certificate: the same of its certificate.
        alone: why it does not run more than once at a time, if it does not.
        loop: a command that takes the UUIDs from standard input, instead of `each`.
    """

    name: str
    steps: str
    needs: tuple[str, ...]
    source: str
    version: str
    each: str = ""
    setup: str = ""
    sign: str = ""
    key: str = "{}.key"
    certificate: str = "{}.pem"
    alone: str = ""
    loop: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """What is run, with the UUIDs on its standard input, a line each; it ends at the first fault."""
        if self.loop:
            return self.loop
        return ("sh", "-euc", f"while read -r uuid; do {{\n{self.each.strip()}\n}} < /dev/null; done")


def lacking(peer: Peer) -> str | None:
    """What must be installed before a peer can run here; None if nothing."""
    for need in peer.needs:
        there = find_spec(need.removeprefix("python:")) if need.startswith("python:") else shutil.which(need)
        if not there and not Path(need).is_file():
            return f"{need.removeprefix('python:')} is not installed ({peer.source})"
    return None


_OPENSSL_SETUP = f"""
cat > openssl.cnf << 'END'
[req]
distinguished_name = empty
string_mask = utf8only
[empty]
[device]
{_EXTENSIONS}
[ca]
default_ca = device_ca
[device_ca]
database = index.txt
new_certs_dir = .
certificate = $ENV::PKI/local-ca.pem
private_key = $ENV::PKI/local-ca.key
default_md = sha256
default_days = {DAYS}
rand_serial = yes
unique_subject = yes
policy = names
x509_extensions = device
[names]
commonName = supplied
organizationalUnitName = supplied
END
: > index.txt
"""
_CA = '-CA "$PKI/local-ca.pem" -CAkey "$PKI/local-ca.key"'
_NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc"
# A serial of 31 hexadecimal digits without another process: the kernel's random UUID.
_SERIAL = 'IFS=- read -r a b c d e < /proc/sys/kernel/random/uuid; serial="0x7${a#?}$b$c$d$e"'
_X509 = f'openssl x509 -req {_CA} -set_serial "$serial" -days {DAYS} -extfile openssl.cnf -extensions device'
_REQ_X509 = f"openssl req -x509 -config openssl.cnf -extensions device {_CA} -days {DAYS}"

_EASYRSA = "/usr/share/easy-rsa/easyrsa"
_EASYRSA_COMMAND = f'EASYRSA_EXT_DIR="$PWD/types" {_EASYRSA} --batch --pki-dir="$PWD/pki" --days={DAYS}'
_CERTTOOL = (
    'certtool --generate-certificate --load-ca-certificate "$PKI/local-ca.pem" --load-ca-privkey "$PKI/local-ca.key"'
)
_LOOPS = str(Path(__file__).parent / "loops.py")
_PYTHON = shlex.quote(sys.executable)

PEERS = (
    Peer(
        name="openssl, three commands",
        steps="`ecparam -genkey`, `req -new`, `x509 -req`",
        needs=("openssl",),
        source="Debian's openssl",
        version="openssl version",
        setup=_OPENSSL_SETUP,
        each=f"""
openssl ecparam -name prime256v1 -genkey -noout -out "$uuid.key"
openssl req -new -config openssl.cnf -key "$uuid.key" -subj "/CN=$uuid/OU=bench" -out "$uuid.csr"
{_SERIAL}
{_X509} -in "$uuid.csr" -out "$uuid.pem"
""",
        sign=f'{_SERIAL}\n{_X509} -in "$csr" -out signed.pem',
    ),
    Peer(
        name="openssl, one command",
        steps="`req -x509 -newkey -CA`",
        needs=("openssl",),
        source="Debian's openssl",
        version="openssl version",
        setup=_OPENSSL_SETUP,
        each=f'{_REQ_X509} {_NEW_KEY} -subj "/CN=$uuid/OU=bench" -keyout "$uuid.key" -out "$uuid.pem"',
        sign=f'{_REQ_X509} -in "$csr" -out signed.pem',
    ),
    Peer(
        name="openssl ca",
        steps="`req -new -newkey`, `ca -in`",
        needs=("openssl",),
        source="Debian's openssl",
        version="openssl version",
        setup=_OPENSSL_SETUP,
        each=f"""
openssl req -new -config openssl.cnf {_NEW_KEY} -subj "/CN=$uuid/OU=bench" -keyout "$uuid.key" -out "$uuid.csr"
openssl ca -batch -config openssl.cnf -notext -in "$uuid.csr" -out "$uuid.pem"
""",
        sign='openssl ca -batch -config openssl.cnf -notext -in "$csr" -out signed.pem',
        alone="it rewrites one index.txt",
    ),
    Peer(
        name="certtool",
        steps="`certtool --generate-privkey`, `certtool --generate-certificate`",
        needs=("certtool",),
        source="Debian's gnutls-bin",
        version="certtool --version",
        setup=f"printf 'tls_www_client\\nsigning_key\\nexpiration_days = {DAYS}\\n' > profile",
        each=f"""
{{ cat profile; echo "cn = $uuid"; echo "unit = bench"; }} > "$uuid.template"
certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile "$uuid.key"
{_CERTTOOL} --load-privkey "$uuid.key" --template "$uuid.template" --outfile "$uuid.pem"
""",
        sign=f'{_CERTTOOL} --load-request "$csr" --template profile --outfile signed.pem',
    ),
    Peer(
        name="easy-rsa",
        steps="`build-client-full nopass`",
        needs=(_EASYRSA, "openssl"),
        source="Debian's easy-rsa",
        version=f"{_EASYRSA} --version",
        setup=f"""
{_EASYRSA} --batch --pki-dir="$PWD/pki" init-pki
mkdir -p pki/private pki/issued pki/reqs pki/certs_by_serial types
cp "$PKI/local-ca.pem" pki/ca.crt
cp "$PKI/local-ca.key" pki/private/ca.key
: > pki/index.txt; : > pki/index.txt.attr; echo 01 > pki/serial; : > types/COMMON
cat > types/client << 'END'
{_EXTENSIONS}
END
""",
        each=f'{_EASYRSA_COMMAND} --use-algo=ec --curve=prime256v1 build-client-full "$uuid" nopass',
        sign=f"""
{_EASYRSA_COMMAND} import-req "$csr" signed
{_EASYRSA_COMMAND} sign-req client signed
cp pki/issued/signed.crt signed.pem
""",
        key="pki/private/{}.key",
        certificate="pki/issued/{}.crt",
        alone="it rewrites one index.txt",
    ),
    Peer(
        name="cfssl",
        steps="`gencert`, `cfssljson -bare`",
        needs=("cfssl", "cfssljson"),
        source="Debian's golang-cfssl",
        version="cfssl version",
        setup=f"""
usages='["digital signature", "client auth"]'
echo "{{\\"signing\\": {{\\"default\\": {{\\"expiry\\": \\"{DAYS * 24}h\\", \\"usages\\": $usages}}}}}}" > config.json
""",
        each="""
echo "{\\"CN\\": \\"$uuid\\", \\"key\\": {\\"algo\\": \\"ecdsa\\", \\"size\\": 256}, \\"names\\": [{\\"OU\\": \\"bench\\"}]}" > "$uuid.json"
cfssl gencert -ca "$PKI/local-ca.pem" -ca-key "$PKI/local-ca.key" -config config.json "$uuid.json" > "$uuid.made"
cfssljson -bare "$uuid" < "$uuid.made"
""",  # noqa: E501 - as it is typed
        sign="""
cfssl sign -ca "$PKI/local-ca.pem" -ca-key "$PKI/local-ca.key" -config config.json "$csr" > made
cfssljson -bare signed < made
""",
        key="{}-key.pem",
    ),
    Peer(
        name="trustme",
        steps="`CA.issue_cert`, `write_to_path` twice; one interpreter for all",
        needs=("python:trustme",),
        source="pip install trustme",
        version=f"{_PYTHON} -c \"from importlib.metadata import version; print('trustme', version('trustme'))\"",
        loop=(sys.executable, _LOOPS, "trustme"),
    ),
    Peer(
        name="cryptography, a plain loop",
        steps="`CertificateBuilder`, two PEM files; one interpreter for all",
        needs=(),
        source="pip install cryptography",
        version=f"{_PYTHON} -c \"import cryptography; print('cryptography', cryptography.__version__)\"",
        loop=(sys.executable, _LOOPS, "cryptography"),
    ),
)
"""From the one that is known best to the quickest."""
