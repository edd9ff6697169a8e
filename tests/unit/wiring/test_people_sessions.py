"""`[people.session_limits]` of rempart.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from rempart.kernel.errors import BadInput
from rempart.people.sessions.model import LIMITS, Kind, Limits
from rempart.wiring.people_sessions import SessionSettings
from rempart.wiring.settings import load

APP = '[app]\nname = "bank"\ntrust_domain = "bank.example"\n[people.session_limits]\n'


def read(tmp_path: Path, limits: str) -> SessionSettings:
    (tmp_path / "rempart.toml").write_text(APP + limits)
    return load(tmp_path).sessions


def test_device_binding_is_offered_unless_it_is_switched_off(tmp_path: Path) -> None:
    assert read(tmp_path, "").device_binding
    app = APP.replace("[people.session_limits]", '[people]\ndevice_binding = "off"')
    (tmp_path / "rempart.toml").write_text(app)
    assert not load(tmp_path).sessions.device_binding
    (tmp_path / "rempart.toml").write_text(app.replace("off", "always"))
    with pytest.raises(BadInput) as refused:
        load(tmp_path)
    assert "rempart.toml:5: 'always'" in refused.value.reason


def test_what_is_not_said_is_as_ever(tmp_path: Path) -> None:
    assert read(tmp_path, "") == SessionSettings(limits=LIMITS, per_person=100, grants_per_person=50)


def test_what_is_said_counts(tmp_path: Path) -> None:
    said = (
        "per_person = 3\ngrants_per_person = 4\nweb = { idle = 900, absolute = 28800 }\n"
        "[people.session_limits.cli]\nabsolute = 3600\n"
    )
    settings = read(tmp_path, said)
    assert (settings.per_person, settings.grants_per_person) == (3, 4)
    assert settings.limits == {
        Kind.WEB: Limits(idle=900, absolute=28800),
        Kind.API: LIMITS[Kind.API],
        Kind.CLI: Limits(idle=3600, absolute=3600),  # never idle for longer than it lasts
    }


@pytest.mark.parametrize(
    ("wrong", "word", "line"),
    [
        ("per_person = 0", "per_person", 5),
        ("per_person = 1001", "per_person", 5),
        ('grants_per_person = "9"', "grants_per_person", 5),
        ("web = 5", "web", 5),
        ("\nweb = { idle = 59 }", "people.session_limits.web.idle", 6),
        ("web = { absolute = 40000000 }", "absolute", 5),
        ("[people.session_limits.web]\nabsolute = 600\nidle = 601", "idle is 601", 7),
        ("[people.session_limits.web]\nidel = 601", "did you mean 'idle'", 6),
        ("tool = { idle = 900 }", "unknown key", 5),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(tmp_path: Path, wrong: str, word: str, line: int) -> None:
    with pytest.raises(BadInput) as refused:
        read(tmp_path, wrong)
    assert word in refused.value.reason
    assert f"rempart.toml:{line}: " in refused.value.reason
