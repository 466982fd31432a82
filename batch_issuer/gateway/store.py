"""What the server remembers: its devices, those that are denied, and the certificates it was sent."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from batch_issuer.devices import is_uuid
from batch_issuer.errors import RefusedError
from batch_issuer.gateway.database import Database
from batch_issuer.gateway.state import Pki

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Conflict", "Device", "Devices", "Store"]

_COLUMNS = "uuid, name, device_group, public_key, production, created_at, last_seen, denied"


@dataclass(frozen=True, slots=True)
class Device:
    """A device that the server knows.

    Attributes:
        uuid: as it was first written.
        name: unique among the devices that are not denied; the UUID unless another was given.
        group: the device group, if it has one.
        public_key: SubjectPublicKeyInfo, one PEM block.
        production: whether its certificate said so when it was created; fixed from then on.
        created_at: UTC.
        last_seen: its last contact with the device gateway, UTC; None before the first.
        denied: whether it was deleted, and is not let in again until it is allowed.
    """

    uuid: str
    name: str
    group: str | None
    public_key: str
    production: bool
    created_at: datetime
    last_seen: datetime | None
    denied: bool


class Conflict(RefusedError):  # noqa: N818 - what a 409 is called
    """A device cannot be created or renamed beside those that there are."""


class Store:
    """All of it.

    Args:
        path: the SQLite file.
        factory: whose it is.

    Attributes:
        devices: the devices.

    Raises:
        RefusedError: the file is something else or another factory's.
    """

    def __init__(self, path: Path, factory: str) -> None:
        self._database = Database(path, factory)
        self.devices = Devices(self._database)

    def pki(self) -> Pki:
        """The PKI that was saved last; an empty one before."""
        found: dict[str, str] = dict(self._database.execute("SELECT name, value FROM pki"))
        return Pki(
            root=_first(found.get("root-crt")),
            tls=_first(found.get("tls-crt")),
            est=_first(found.get("est-tls-crt")),
            device_cas=_certificates(found.get("ca-crt")),
            disabled=frozenset(map(int, found.get("disabled-ca-serials", "").split())),
            created_at=_moment(found.get("created-at")),
            updated_at=_moment(found.get("updated-at")),
        )

    def save_pki(self, pki: Pki) -> None:
        """Put `pki` in the place of what was saved before; on the disk when this returns."""
        values = {
            "root-crt": _pem(pki.root),
            "tls-crt": _pem(pki.tls),
            "est-tls-crt": _pem(pki.est),
            "ca-crt": _pem(*pki.device_cas),
            "disabled-ca-serials": " ".join(map(str, sorted(pki.disabled))),
            "created-at": pki.created_at and str(int(pki.created_at.timestamp())),
            "updated-at": pki.updated_at and str(int(pki.updated_at.timestamp())),
        }
        with self._database.transaction(durable=True):
            self._database.execute("DELETE FROM pki")
            for name, value in values.items():
                if value:
                    self._database.execute("INSERT INTO pki VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


class Devices:
    """The devices and the deny list. UUIDs are compared without regard to case."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, uuid: str) -> Device | None:
        """The device with that UUID, denied or not; None if there is none."""
        return next(self._select("WHERE uuid = ?", uuid), None)

    def named(self, name: str) -> Device | None:
        """The device with that name that is not denied; None if there is none."""
        return next(self._select("WHERE name = ? AND denied = 0", name), None)

    def list(self, *, denied: bool = False, limit: int = -1, offset: int = 0) -> list[Device]:
        """Devices in the order of their UUIDs: those that are not denied, or those that are."""
        return list(self._select("WHERE denied = ? ORDER BY uuid LIMIT ? OFFSET ?", denied, limit, offset))

    def count(self, *, denied: bool = False) -> int:
        """How many there are."""
        [(count,)] = self._database.execute("SELECT count(*) FROM devices WHERE denied = ?", (denied,))
        return int(count)

    def create(
        self,
        uuid: str,
        *,
        public_key: str,
        production: bool,
        now: datetime,
        name: str | None = None,
        group: str | None = None,
        pardon: bool = False,
    ) -> Device:
        """A new device.

        Args:
            uuid: what it is called in its certificate.
            public_key: SubjectPublicKeyInfo, one PEM block.
            production: whether its certificate says so.
            now: UTC.
            name: None for the UUID.
            group: the device group.
            pardon: whether a denied device with that UUID is taken off the deny list for it.

        Raises:
            Conflict: its UUID is known or denied, or its name is taken; nothing was changed.
        """
        _check_name(uuid, name)
        with self._database.transaction():
            known = self.get(uuid)
            if known is not None and known.denied and pardon:
                self._database.execute("DELETE FROM devices WHERE uuid = ?", (uuid,))
            elif known is not None:
                raise _taken(known)
            values = (uuid, name or uuid, group, public_key, production, int(now.timestamp()), None, False)
            self._write("INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values, name or uuid)
        return Device(uuid, name or uuid, group, public_key, production, _utc(int(now.timestamp())), None, denied=False)

    def change(self, uuid: str, *, name: str, group: str | None) -> None:
        """Give a device another name and group.

        Raises:
            Conflict: the name is taken.
        """
        _check_name(uuid, name)
        with self._database.transaction():
            self._write("UPDATE devices SET name = ?, device_group = ? WHERE uuid = ?", (name, group, uuid), name)

    def seen(self, uuid: str, now: datetime) -> None:
        """It was in contact."""
        self._database.execute("UPDATE devices SET last_seen = ? WHERE uuid = ?", (int(now.timestamp()), uuid))

    def delete(self, uuid: str) -> bool:
        """Put it on the deny list; whether there was such a device that was not on it."""
        done = self._database.execute("UPDATE devices SET denied = 1 WHERE uuid = ? AND denied = 0", (uuid,))
        return done.rowcount > 0

    def allow(self, uuid: str) -> bool:
        """Take it off the deny list, so that it may register anew; whether it was on it."""
        done = self._database.execute("DELETE FROM devices WHERE uuid = ? AND denied = 1", (uuid,))
        return done.rowcount > 0

    def _select(self, condition: str, *values: object) -> Iterator[Device]:
        statement = f"SELECT {_COLUMNS} FROM devices {condition}"  # noqa: S608 - conditions are those above
        for uuid, name, group, key, production, created, seen, denied in self._database.execute(statement, values):
            when = None if seen is None else _utc(seen)
            yield Device(uuid, name, group, key, bool(production), _utc(created), when, bool(denied))

    def _write(self, statement: str, values: tuple[object, ...], name: str) -> None:
        try:
            self._database.execute(statement, values)
        except sqlite3.IntegrityError:
            raise Conflict(f"there is a device with the name {name!r} already") from None


def _check_name(uuid: str, name: str | None) -> None:
    if name is not None and is_uuid(name) and name.lower() != uuid.lower():
        # It is that device's own name at its first contact, which it could not have any more.
        raise Conflict(f"a device's name must not be another device's UUID; it is {name}")


def _taken(known: Device) -> Conflict:
    if known.denied:
        return Conflict(f"the device {known.uuid} was deleted and is denied")
    return Conflict(f"there is a device with the UUID {known.uuid} already")


def _pem(*certificates: x509.Certificate | None) -> str:
    return "".join(c.public_bytes(Encoding.PEM).decode() for c in certificates if c is not None)


def _certificates(text: str | None) -> tuple[x509.Certificate, ...]:
    return tuple(x509.load_pem_x509_certificates(text.encode())) if text else ()


def _first(text: str | None) -> x509.Certificate | None:
    return next(iter(_certificates(text)), None)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else _utc(int(text))


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
