"""`rempart detect` without a running system: exit codes, JSON, hostile input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rempart.cli.main import main
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["detect", *arguments])
    out, err = capsys.readouterr()
    code = end.value.code
    return (code if isinstance(code, int) else 0), out, err


def events(path: Path, *lines: bytes) -> str:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return str(path)


def reuse(person: str) -> bytes:
    return encode(Event(type=EventType.TOKEN_REUSED, at=1e9, success=False, person=person), "people")


def test_the_built_in_streams(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ended(capsys, "test", "--only", "password_spray", "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["problems"]) == (0, True, [])
    assert {stream["rule"] for stream in document["streams"]} == {"password_spray"}


def test_a_stream_that_gives_something_else_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "streams").mkdir()
    text = "- {stream: wrong, gives: {brute_force: 1}, events: [{type: people.login}]}\n"
    (tmp_path / "streams" / "brute_force.yaml").write_text(text)
    code, _, err = ended(capsys, "test", "--rules", str(tmp_path), "--only", "brute_force")
    assert code == 1
    assert "wrong: brute_force: wrong: expected {'brute_force': 1}, got {}" in err


def test_a_rule_without_streams_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yml").write_text(
        "title: T\nname: mine\nid: 7f9c24b8-0e0c-4c49-a4ad-4fbb3a2f5a11\nlogsource: {product: rempart}\n"
        "tags: [attack.t1078]\ndetection: {s: {type: people.login}, condition: s}\nfalsepositives: [x]\nlevel: high\n"
    )
    code, _, err = ended(capsys, "test", "--rules", str(tmp_path))
    assert code == 1
    assert "mine has no stream that makes it alert" in err


def test_an_unknown_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, "test", "--only", "nothing")[0] == 1


def test_events_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = events(tmp_path / "events.jsonl", reuse("usr_a"), b"no event", reuse("usr_b"))
    code, out, err = ended(capsys, "run", file, "--json")
    assert code == 1
    assert [json.loads(line)["principals"][0] for line in out.splitlines()] == ["person:usr_a", "person:usr_b"]
    assert "3 events, 1 of them unreadable, 2 alerts" in err


def test_nothing_found_is_exit_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = encode(Event(type=EventType.LOGIN, at=1e9, success=True, person="usr_a"), "people")
    assert ended(capsys, "run", events(tmp_path / "events.jsonl", quiet))[0] == 0


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", b"[]", b"hello"])
def test_a_file_of_something_else_is_exit_code_2(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(capsys, "run", events(tmp_path / "events.jsonl", content))[0] == 2
    assert ended(capsys, "run", str(tmp_path / "nowhere"))[0] == 2


def test_an_event_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = events(tmp_path / "events.jsonl", reuse("usr_\x1b[2J[bold]x"), reuse("[red]usr_b"))
    _, out, _ = ended(capsys, "run", file)
    assert "\x1b" not in out
    assert "[red]usr_b" in out  # shown as it stands, not as markup


def test_the_list_of_rules(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ended(capsys, "rules", "--json")
    rules = json.loads(out)["rules"]
    assert code == 0
    assert len(rules) > 25
    assert all(
        one["attack"] and one["falsepositives"] and one["severity"] in ("medium", "high", "critical") for one in rules
    )


def test_a_system_that_does_not_run_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (("replay",), ("watch",), ("show", "alr_x")):
        assert ended(capsys, *verb, "--state", str(tmp_path))[0] == 3
