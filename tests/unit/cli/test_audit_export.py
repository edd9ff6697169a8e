"""What is taken out of the record can hurt neither a spreadsheet nor a terminal."""

from __future__ import annotations

import csv
import io
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.cli import audit_export
from rempart.cli.audit_events import cells
from rempart.cli.audit_export import FIELDS, safe_cell
from rempart.cli.output import print_table, printable
from rempart.kernel.errors import BadInput, Conflict

HOSTILE = '=HYPERLINK("http://evil.example","x")'
ROW: dict[str, Any] = {
    "index": 7,
    "time": "2026-01-02T03:04:05.500Z",
    "at": 1_767_323_045_500,
    "id": "evt_1",
    "type": "people.login",
    "source": "people",
    "success": False,
    "severity": "low",
    "reason": HOSTILE,
    "person": "usr_1\r\n8,forged",
    "path": "/a\x1b[2J\u202egnp.exe",
    "details": {"amount": -5},
}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    page = {"events": [ROW, {**ROW, "index": 6, "event": {"a": "é"}}], "next": None}
    page["events"][0] = {**ROW, "event": {"a": 1}}
    monkeypatch.setattr(audit_export, "pages", lambda *_: iter([page]))


@pytest.mark.parametrize("start", [*"=+-@\t\r\n\uff1d\uff0b\uff0d\uff20", " =", '"='])
def test_no_cell_is_a_formula(start: str) -> None:
    assert safe_cell(start + "cmd|' /C calc'!A0").startswith("'")


@given(st.text(st.one_of(st.sampled_from("=+-@;,\t\r\n \"'\0\ufeff\uff1d\u202ea"), st.characters()), max_size=40))
@settings(max_examples=200, deadline=None)
def test_whatever_separates_cells_none_of_them_is_a_formula_and_none_is_a_line_of_its_own(text: str) -> None:
    file = io.BytesIO()
    audit_export._write_csv(iter([[{**ROW, "reason": text, "person": text, "details": {"a": text}}]]), file)
    written = file.getvalue().decode("utf-8")
    assert [line.count("\r") for line in written.split("\n")] == [1, 1, 0]
    assert written.replace("\r\n", "").isprintable()
    _header, row = csv.reader(io.StringIO(written, newline=""))
    assert len(row) == len(FIELDS)
    assert all(not cell.lstrip(' "').startswith(("=", "+", "-", "@", "\uff1d")) for cell in row)
    for line in csv.reader(io.StringIO(written, newline=""), delimiter=";"):
        assert all(not cell.lstrip(' "').startswith(("=", "+", "-", "@", "\uff1d")) for cell in line)


def test_numbers_stay_numbers_and_the_rest_is_plain() -> None:
    assert [safe_cell(value) for value in (-5, True, None, 1.5, "a", {"k": "=x"})] == [
        *("-5", "true", "", "1.5", "a", '{"k": "=x"}')
    ]


def test_csv_has_one_line_for_an_event_whatever_stands_in_it(found: None, tmp_path: Path) -> None:
    audit_export.export(format="csv", output=tmp_path / "x.csv")
    text = (tmp_path / "x.csv").read_text("utf-8")
    assert len(text.splitlines()) == 3
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["reason"] == "'" + HOSTILE
    assert rows[0]["person"] == "usr_1\\r\\n8,forged"
    assert "\x1b" not in text
    assert list(rows[0]) == list(FIELDS)


def test_a_file_is_private_and_is_not_written_over(found: None, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    audit_export.export(output=path)
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [{"a": 1}, {"a": "é"}]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Conflict):
        audit_export.export(output=path)
    with pytest.raises(BadInput):
        audit_export.export(format="xml")


def test_what_failed_half_way_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> Any:
        yield {"events": [{**ROW, "event": {}}], "next": 5}
        raise OSError("gone")

    monkeypatch.setattr(audit_export, "pages", broken)
    with pytest.raises(OSError, match="gone"):
        audit_export.export(output=tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="pyarrow is not installed (the extra `parquet`)")
def test_parquet_is_read_back(found: None, tmp_path: Path) -> None:
    from pyarrow import parquet

    audit_export.export(format="parquet", output=tmp_path / "x.parquet")
    rows = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [row["index"] for row in rows] == [7, 6]
    assert rows[0]["person"] == ROW["person"]
    assert rows[0]["time"].isoformat() == "2026-01-02T03:04:05.500000+00:00"


def test_no_line_moves_the_cursor_of_a_terminal() -> None:
    shown = cells(ROW)
    assert all(cell.isprintable() for cell in shown)
    assert shown[4] == "usr_1\\r\\n8,forged"
    assert printable("/a\x1b[2J\u202e") == "/a\\x1b[2J\\u202e"
    assert printable("é \U0001f600") == "é \U0001f600"


@pytest.mark.parametrize(
    "cell", ["[/x]", "[black on black]gone", "[link=http://evil.example]x", "a[0] :smile:", "\x1b[2J\r\n"]
)
def test_a_cell_neither_breaks_nor_hides_nor_steers(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("who", "why"), [("usr_1", cell), ("usr_2", "fine")])
    shown = capsys.readouterr().out
    assert printable(cell) in shown
    assert len(shown.splitlines()) == 3
    assert "\x1b" not in shown
