from __future__ import annotations

import json
import os

import pytest

from rempart.kernel.errors import BadInput, Unavailable
from rempart.servers.state_files import StateDirectory, holder, write_file


def opened(path) -> StateDirectory:
    state = StateDirectory(path)
    state.open()
    return state


def test_it_is_made_private_and_what_is_remembered_comes_back(tmp_path):
    state = opened(tmp_path / "s")
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    state.remembered.ports["mtls:wallet"] = 15001
    uid = state.uid("wallet")
    assert state.uid("wallet") == uid != state.uid("users")
    state.save()
    state.close()
    again = opened(tmp_path / "s")
    assert (again.remembered.ports, again.uid("wallet")) == ({"mtls:wallet": 15001}, uid)
    again.close()


def test_a_second_supervisor_is_refused_and_told_who_holds_it(tmp_path):
    state = opened(tmp_path / "s")
    assert holder(tmp_path / "s") == os.getpid()
    with pytest.raises(Unavailable, match=f"process {os.getpid()}"):
        StateDirectory(tmp_path / "s").open()
    state.close()
    assert holder(tmp_path / "s") is None


def test_somebody_elses_directory_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    os.chmod(tmp_path, 0o755)
    with pytest.raises(BadInput, match="holds other things"):
        StateDirectory(tmp_path).open()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_file_or_a_link_or_a_missing_parent_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises((BadInput, Unavailable)):
        StateDirectory(tmp_path / "file").open()
    with pytest.raises(BadInput, match="no directory"):
        StateDirectory(tmp_path / "link").open()
    with pytest.raises(BadInput, match="does not exist"):
        StateDirectory(tmp_path / "a" / "b").open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path):
    (tmp_path / "s").mkdir()
    os.chown(tmp_path / "s", 12345, 12345)
    with pytest.raises(BadInput, match="belongs to user 12345"):
        StateDirectory(tmp_path / "s").open()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"uids": 1, "zzz": 2}'])
def test_damage_to_what_is_remembered_does_not_stop_a_start(tmp_path, content):
    opened(tmp_path / "s").close()
    (tmp_path / "s" / "state.json").write_text(content)
    state = opened(tmp_path / "s")
    assert state.remembered.uids == {}
    assert (tmp_path / "s" / "state.damaged").read_text() == content
    state.close()


def test_a_full_disk_is_told_and_leaves_the_old_content(tmp_path, monkeypatch):
    target = tmp_path / "f"
    write_file(target, b"old")

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable, match="no space left"):
        write_file(target, b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_too_little_space_is_refused_before_anything_starts(tmp_path, monkeypatch):
    facts = os.statvfs(tmp_path)
    values = list(facts)
    values[4] = 1  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(values))
    with pytest.raises(Unavailable, match="MiB are free"):
        StateDirectory(tmp_path / "s").open()


def test_state_json_holds_no_secret(tmp_path):
    state = opened(tmp_path / "s")
    state.save()
    document = json.loads((tmp_path / "s" / "state.json").read_text())
    assert set(document) == {"instance", "trust_domain", "app", "ports", "uids", "running"}
    state.close()
