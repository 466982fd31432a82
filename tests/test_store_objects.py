"""Objects in a store: addresses, first-wins puts whose answers are lost, errors as sentences, the lease."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from stores import SECRET, Request, Stores, serving

from batch_issuer.errors import BatchIssuerError, OutputError, RefusedError, RunFailedError, StoreError
from batch_issuer.stores import lease as lease_module
from batch_issuer.stores.address import StoreAddress, is_address, parse_address
from batch_issuer.stores.lease import LEASE, Lease, check_owner
from batch_issuer.stores.opening import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_issuer.stores.store import Store


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    with serving() as started:
        yield started


@pytest.fixture(autouse=True)
def environment(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.proxy.reset()
    for name, value in stores.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def store(stores: Stores) -> Store:
    return open_store(parse_address(f"s3://factory/{stores.prefix()}"))


def test_an_address_is_what_it_says() -> None:
    address = parse_address("s3://factory/lots/7/")
    assert address == StoreAddress("s3", "factory", "lots/7")
    assert str(address) == "s3://factory/lots/7"
    assert (address.name, str(address.parent)) == ("7", "s3://factory/lots")
    assert [is_address(text) for text in ("s3://a", "S3://a", "issued", "./s3:/a", "/s3/a")] == [True, True] + [
        False
    ] * 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("s3://me:hunter2@factory/lot", "an address of an object store has no user name, password or query in it"),
        ("s3://factory/lot?sig=hunter2", "an address of an object store has no user name, password or query in it"),
        ("ftp://factory/lot", "'ftp://factory/lot' begins with ftp://, expected one of s3://, gs://, az://"),
        ("s3://factory", "'s3://factory' is no address of a place in an object store: expected s3://bucket/prefix"),
        ("s3://factory/a//b", "'s3://factory/a//b' is no address of a place in an object store"),
        ("s3://factory/../b", "'s3://factory/../b' is no address of a place in an object store"),
        ("s3:///lot", "'s3:///lot' is no address of a place in an object store"),
        ("s3://factory/a b", "'s3://factory/a b' is no address of a place in an object store"),
        ("s3://factory/%2e%2e/b", "'s3://factory/%2e%2e/b' is no address of a place in an object store"),
    ],
)
def test_other_addresses_are_refused(text: str, told: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse_address(text)
    assert str(refused.value).startswith(told)
    assert "hunter2" not in str(refused.value) + str(refused.value.hint)


def test_objects_come_back(store: Store, tmp_path: Path) -> None:
    assert store.get("a") is None
    store.put("a", b"one")
    assert store.get("a") == b"one"
    (tmp_path / "file").write_bytes(bytes(6 << 20))
    store.put("b/c", tmp_path / "file")
    assert store.fetch("b/c", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == bytes(6 << 20)
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert not store.fetch("nothing", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert list(store.names()) == ["a", "b/c"]
    assert list(store.names("b")) == ["b/c"]
    store.delete(["a", "b/c", "nothing"])
    assert list(store.names()) == []


def test_many_are_put_and_listed(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    names = [f"many/{index:04d}" for index in range(1100)]
    store.put_all((name, tmp_path / "file") for name in names)
    assert list(store.names("many")) == names  # more than one page
    store.delete(names)
    assert list(store.names()) == []


def test_the_first_put_wins(store: Store) -> None:
    assert store.put_new("record", b"first")
    assert not store.put_new("record", b"second")
    assert store.get("record") == b"first"
    found = store.read("record")
    assert found is not None
    assert store.put_over("record", b"third", found[1].version)
    assert not store.put_over("record", b"fourth", found[1].version)
    assert store.get("record") == b"third"


@pytest.mark.parametrize("fault", ["drop", "late-500", "500", "503", "cut", 0.3])
def test_a_put_whose_answer_is_lost_is_known_to_have_won(stores: Stores, store: Store, fault: str | float) -> None:
    pending: list[str | float] = [fault]
    stores.proxy.fault = lambda request: pending.pop() if request.is_put and pending else None
    assert store.put_new("record", b"first")
    assert store.get("record") == b"first"
    pending.append(fault)
    assert not store.put_new("record", b"second")
    found = store.read("record")
    assert found is not None
    pending.append(fault)
    assert store.put_over("record", b"third", found[1].version)
    assert store.get("record") == b"third"
    assert not pending


@pytest.mark.parametrize("fault", ["drop", "cut", "500", "503"])
def test_reads_and_lists_are_tried_again(stores: Stores, store: Store, fault: str, tmp_path: Path) -> None:
    store.put("a", b"one")
    pending = [fault] * 4
    stores.proxy.fault = lambda _: pending.pop() if pending else None
    assert store.get("a") == b"one"
    pending = [fault] * 2
    assert list(store.names()) == ["a"]
    pending = [fault] * 2
    assert store.fetch("a", tmp_path / "a")
    pending = [fault] * 2
    store.delete(["a"])
    assert store.get("a") is None


def _told(error: BatchIssuerError) -> str:
    text = f"{error}\n{error.hint}\n{error!r}"
    for secret in (SECRET, "AKIATESTTESTTEST", "hunter2"):
        assert secret not in text
    return str(error)


def test_a_store_that_fails_for_long_is_told(stores: Stores) -> None:
    store = open_store(parse_address(f"s3://factory/{stores.prefix()}"), retries=1)
    stores.proxy.fault = lambda _: "503"
    with pytest.raises(StoreError) as failed:
        store.get("a")
    assert _told(failed.value) == (
        f"the store cannot read a in {store.address}: it answers 503 SlowDown, again and again"
    )
    assert (failed.value.refused, failed.value.exit_code) == (False, 1)
    with pytest.raises(StoreError, match=r"cannot (read|write) a in .*: it answers 503 SlowDown"):
        store.put_new("a", b"x")
    stores.proxy.fault = lambda _: "403"
    with pytest.raises(StoreError) as refused:
        store.put("a", b"x")
    assert _told(refused.value) == f"the store refuses to write a in {store.address}: 403 SlowDown"
    assert (refused.value.refused, refused.value.exit_code) == (True, 2)


def test_a_bucket_that_is_not_there_is_named(stores: Stores, tmp_path: Path) -> None:
    store = open_store(parse_address("s3://no-such-bucket/lot"))
    doings: list[Callable[[], object]] = [
        lambda: store.get("a"),
        lambda: store.put("a", b""),
        lambda: store.put_new("a", b""),
        lambda: list(store.names()),
        lambda: store.fetch("a", tmp_path / "a"),
    ]
    for doing in doings:
        with pytest.raises(StoreError) as refused:
            doing()
        assert _told(refused.value) == "the bucket no-such-bucket of s3://no-such-bucket/lot does not exist"
        assert refused.value.exit_code == 2


def test_a_store_that_is_not_reached_is_told(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(StoreError) as failed:
        open_store(parse_address("s3://factory/lot"), retries=1).get("a")
    assert _told(failed.value) == (
        "the store of s3://factory/lot cannot be reached to read a, or does not answer in time"
    )
    assert failed.value.exit_code == 1


def test_a_store_that_does_not_answer_is_told(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_TIMEOUT", "200ms")
    stores.proxy.fault = lambda _: 1.0
    with pytest.raises(StoreError, match="cannot be reached to read a, or does not answer in time"):
        open_store(parse_address("s3://factory/lot"), retries=0).get("a")


def test_missing_credentials_are_told(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://169.254.169.254:1")
    monkeypatch.setenv("AWS_CONNECT_TIMEOUT", "200ms")
    with pytest.raises(StoreError) as refused:
        open_store(parse_address("s3://factory/lot"), retries=0).get("a")
    assert _told(refused.value) == (
        "no credentials for s3://factory/lot are in the environment, and this machine has no role that gives any"
    )
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("http://me:hunter2@127.0.0.1:9000", "AWS_ENDPOINT has a user name or password in it"),
        (
            "http://minio.factory.example:9000",
            "AWS_ENDPOINT is http://minio.factory.example: private keys would pass the network in the clear",
        ),
    ],
)
def test_unsafe_endpoints_are_refused(
    stores: Stores, endpoint: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", endpoint)
    with pytest.raises(RefusedError) as refused:
        open_store(parse_address("s3://factory/lot"))
    assert _told(refused.value) == told


def test_plain_http_can_be_allowed(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://minio.factory.example:9000")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    assert open_store(parse_address("s3://factory/lot")).address.bucket == "factory"


def test_a_lease_is_one_runs(stores: Stores, store: Store) -> None:
    held = Lease(store, "one")
    with pytest.raises(OutputError) as refused:
        Lease(store, "two", dead=frozenset({"three"}))
    assert str(refused.value).startswith(
        f"the output folder {store.address} is in use by another run: its lease was renewed "
    )
    held.check()
    check_owner(store, "one")
    with pytest.raises(RunFailedError, match="another run has taken"):
        check_owner(store, "two")
    held.release()
    assert list(store.names()) == []
    Lease(store, "two").release()


def test_a_lease_of_the_dead_is_taken_over_and_then_lost(stores: Stores, store: Store) -> None:
    first = Lease(store, "one")
    second = Lease(store, "two", dead=frozenset({"one"}))
    with pytest.raises(RunFailedError) as lost:
        first.check()
    assert str(lost.value) == f"another run has taken {store.address} over: this one was not heard of for 90 s"
    first.release()  # is not its own any more
    second.check()
    second.release()
    assert store.get(LEASE) is None


def test_a_lease_grows_old_by_the_stores_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(LEASE, json.dumps({"owner": "one", "beat": 1}).encode())
    with pytest.raises(OutputError):
        Lease(store, "two")
    monkeypatch.setattr(lease_module, "_STALE_SECONDS", 0)
    Lease(store, "two").release()


def test_a_lease_is_renewed_while_it_is_held(stores: Stores, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_RENEW_SECONDS", 0.05)
    renewed = threading.Event()

    def fault(request: Request) -> None:
        if request.is_put and _beats(stores, store) >= 3:
            renewed.set()

    stores.proxy.fault = fault
    held = Lease(store, "one")
    assert renewed.wait(60)
    held.release()


def _beats(stores: Stores, store: Store) -> int:
    if LEASE not in stores.keys(store.address.path):
        return 0
    return int(json.loads(stores.get(store.address.path, LEASE))["beat"])


@pytest.mark.parametrize("fault", ["drop", "late-500", "503"])
def test_a_renewal_whose_answer_is_lost_is_one(stores: Stores, store: Store, fault: str) -> None:
    held = Lease(store, "one")
    pending = [fault]
    stores.proxy.fault = lambda request: pending.pop() if request.is_put and pending else None
    held.check()
    held.check()
    assert not pending
    held.release()
