from __future__ import annotations

import time

import pytest

from rempart.kernel.errors import BadInput, Integrity, Unavailable
from rempart.servers.key_material import KEY_FILE_VARIABLE, KeyMaterial, check_clock, ensure_roots, master_key


@pytest.fixture
def state(tmp_path):
    for name in ("secrets", "tls", "trust"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_key_and_roots_are_made_once_and_kept(state):
    key = master_key(state, "dev")
    assert (state / "secrets" / "master.key").stat().st_mode & 0o777 == 0o600
    roots = ensure_roots(state, "bank.example", key)
    assert master_key(state, "dev") == key
    assert ensure_roots(state, "bank.example", key) == roots
    assert roots.spiffe != roots.web
    assert b"PRIVATE" not in (state / "secrets" / "web-root.sealed").read_bytes()


def test_another_key_or_domain_does_not_open_the_roots(state):
    key = master_key(state, "dev")
    ensure_roots(state, "bank.example", key)
    for other in ((bytes(32), "bank.example"), (key, "shop.example")):
        with pytest.raises(Integrity, match="does not open"):
            ensure_roots(state, other[1], other[0])


def test_a_lost_master_key_is_told_and_not_replaced(state):
    ensure_roots(state, "bank.example", master_key(state, "dev"))
    (state / "secrets" / "master.key").unlink()
    with pytest.raises(Integrity, match="missing"):
        master_key(state, "dev")


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"ab" * 31, b"ab" * 33])
def test_a_malformed_key_file_is_refused_without_showing_it(state, monkeypatch, content):
    file = state / "key"
    file.write_bytes(content)
    file.chmod(0o400)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(file))
    with pytest.raises(BadInput) as caught:
        master_key(state, "production")
    assert "zz" not in str(caught.value)
    assert "abab" not in str(caught.value)


def test_a_key_file_that_others_can_read_is_refused(state, monkeypatch):
    file = state / "key"
    file.write_text("ab" * 32)
    file.chmod(0o440)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(file))
    with pytest.raises(BadInput, match="can be read by others"):
        master_key(state, "dev")


def test_production_keeps_no_key_in_the_state_directory(state):
    with pytest.raises(BadInput, match="production"):
        master_key(state, "production")


def test_a_clock_that_jumped_is_told(state):
    roots = ensure_roots(state, "bank.example", master_key(state, "dev"))
    check_clock("spiffe", roots.spiffe, time.time())
    with pytest.raises(Unavailable, match="clock"):
        check_clock("spiffe", roots.spiffe, time.time() - 86400 * 30)
    with pytest.raises(Unavailable, match="expired"):
        check_clock("spiffe", roots.spiffe, time.time() + 86400 * 365 * 30)


def test_each_process_gets_a_key_of_its_own_and_never_the_master(state):
    material = KeyMaterial(state, "bank.example", master_key(state, "dev"))
    keys = {material.process_key(name) for name in ("people", "identity", "pdp")}
    assert len(keys) == 3
    assert material.master not in keys
