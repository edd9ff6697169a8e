from __future__ import annotations

import json
import time

import pytest

from rempart.kernel.errors import Integrity, Unavailable
from rempart.servers.keys_at_start import check_clock, ensure_roots, sealing_key, supervisor_keys
from rempart.servers.root_store import RootStore
from rempart.workloads import authority

DOMAIN = "bank.example"
MASTER = bytes(range(32))
KEY = sealing_key(MASTER)


@pytest.fixture
def store(tmp_path):
    for name in ("secrets", "tls", "trust"):
        (tmp_path / name).mkdir()
    return RootStore(tmp_path)


def test_roots_are_made_once_and_kept(store):
    assert store.load("spiffe") is None
    roots = ensure_roots(store, DOMAIN, KEY)
    assert ensure_roots(store, DOMAIN, KEY) == roots
    assert roots.spiffe != roots.web
    assert b"PRIVATE" not in (store.secrets / "web-root.sealed").read_bytes()


def test_what_is_kept_of_a_root_is_what_its_certificate_says(store):
    ensure_roots(store, DOMAIN, KEY)
    root = store.load("spiffe").current
    assert root == authority.described(root.certificate, root.sealed)
    assert root.not_before < time.time() < root.not_after


def test_what_an_earlier_version_left_is_taken_over(store):
    roots = ensure_roots(store, DOMAIN, KEY)
    kept = store.load("spiffe")
    (store.secrets / "spiffe-roots.json").unlink()
    assert ensure_roots(store, DOMAIN, KEY) == roots
    assert store.load("spiffe") == kept


@pytest.mark.parametrize("wrong", [{"fingerprint": "00"}, {"not_after": 1.0}, {"fingerprint": ""}])
def test_what_is_kept_wrongly_of_a_root_is_put_right(store, wrong):
    ensure_roots(store, DOMAIN, KEY)
    kept, file = store.load("spiffe"), store.secrets / "spiffe-roots.json"
    document = json.loads(file.read_bytes())
    file.write_text(json.dumps(document | {"current": document["current"] | wrong}))
    assert store.load("spiffe") != kept
    ensure_roots(store, DOMAIN, KEY)
    assert store.load("spiffe") == kept


def test_another_key_or_domain_does_not_open_the_roots(store):
    ensure_roots(store, DOMAIN, KEY)
    for key, domain in ((bytes(32), DOMAIN), (KEY, "shop.example")):
        with pytest.raises(Integrity, match="does not open"):
            ensure_roots(store, domain, key)


def test_a_clock_that_jumped_is_told(store):
    ensure_roots(store, DOMAIN, KEY)
    root = store.load("spiffe").current
    check_clock("spiffe", root, time.time())
    with pytest.raises(Unavailable, match="clock"):
        check_clock("spiffe", root, time.time() - 86400 * 30)
    with pytest.raises(Unavailable, match="expired"):
        check_clock("spiffe", root, time.time() + 86400 * 365 * 30)


def test_each_process_gets_a_key_of_its_own_and_the_supervisor_never_the_master(store):
    keys = supervisor_keys(MASTER, ["people", "identity", "pdp"])
    assert set(keys.processes) == {"people", "identity", "pdp"}
    assert len({*keys.processes.values(), keys.sealing, MASTER}) == 5
    assert MASTER.hex() not in repr(keys)
    assert str(keys.sealing) not in repr(keys)
