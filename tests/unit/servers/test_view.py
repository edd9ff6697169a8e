from __future__ import annotations

from rempart.servers.view import covers


def test_open_directories_need_no_cover(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("rempart.servers.view._open_to_others", lambda path: True)
    top = tmp_path_factory.mktemp("x")
    assert covers([top], top / "state") == []


def test_what_lies_behind_a_closed_directory_is_mounted_back(tmp_path, monkeypatch):
    home = tmp_path / "home"
    for name in ("app", "venv", "letters"):
        (home / name).mkdir(parents=True)
    monkeypatch.setattr("rempart.servers.view._open_to_others", lambda path: path != home)
    assert covers([home / "app", home / "venv", home / "app" / "policy"], tmp_path / "s") == [
        (str(home), [str(home / "app"), str(home / "venv")])
    ]


def test_the_way_to_the_state_is_opened_and_nothing_of_it_mounted_back(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr("rempart.servers.view._open_to_others", lambda path: path != home)
    assert covers([], home / "state") == [(str(home), [])]


def test_a_closed_tree_is_mounted_back_child_by_child(tmp_path, monkeypatch):
    app = tmp_path / "app"
    (app / "src").mkdir(parents=True)
    (app / "rempart.toml").write_text("")
    (app / "dangling").symlink_to("nowhere")
    monkeypatch.setattr("rempart.servers.view._open_to_others", lambda path: path != app)
    assert covers([app], tmp_path / "s") == [(str(app), [str(app / "rempart.toml"), str(app / "src")])]
