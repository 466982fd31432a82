"""The shell scripts that the factory's API hands out: a PKI with nothing but `sh` and `openssl`.

An API of the guide's time answered a POST with them beside the requests: `create_ca FACTORY` and
`create_device_ca COMMON_NAME FACTORY [NAME]` make keys and certificates in the current directory, `sign_tls_csr CSR`
and `sign_ca_csr CSR` print a certificate. Their certificates are those of `profiles`, with lifetimes in days.
"""

from __future__ import annotations

from importlib.resources import files

__all__ = ["SCRIPTS"]

_FOLDER = files(__package__) / "scripts"


def _script(name: str) -> str:
    return "".join((_FOLDER / f"{part}.sh").read_text(encoding="utf-8") for part in ("common", name))


SCRIPTS: dict[str, str] = {
    name: _script(name) for name in ("create_ca", "create_device_ca", "sign_tls_csr", "sign_ca_csr")
}
"""Each script's text by the name of its field in the API's answer; every text stands for itself."""
