from __future__ import annotations

import pytest

from rempart.kernel.errors import BadInput, Integrity
from rempart.servers.master_key import KEY_FILE_VARIABLE, master_key


@pytest.fixture
def state(tmp_path):
    for name in ("secrets", "tls", "trust"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_it_is_made_once_and_kept(state):
    key = master_key(state, "dev")
    assert (state / "secrets" / "master.key").stat().st_mode & 0o777 == 0o600
    assert master_key(state, "dev") == key


def test_a_lost_master_key_is_told_and_not_replaced(state):
    master_key(state, "dev")
    (state / "secrets" / "spiffe-root.sealed").touch()
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
