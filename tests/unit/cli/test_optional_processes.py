"""A process that nobody asked for isn't called broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from rempart.cli.state import call
from rempart.kernel.errors import Unavailable


@pytest.mark.parametrize(
    ("process", "named"),
    [("shipper", "[[audit.sink]]"), ("notifier", "[[alerting.channel]]"), ("models", "[detection]")],
)
def test_what_rempart_toml_does_not_ask_for_is_told_so_while_the_rest_runs(
    tmp_path: Path, process: str, named: str
) -> None:
    with pytest.raises(Unavailable) as stopped:
        call(tmp_path, process, "GET", "/")
    assert stopped.value.code == "not_running"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "control.sock").touch()
    with pytest.raises(Unavailable) as running:
        call(tmp_path, process, "GET", "/")
    assert (running.value.code, named in running.value.remedy) == ("not_configured", True)
    with pytest.raises(Unavailable) as other:
        call(tmp_path, "sequencer", "GET", "/")
    assert other.value.code == "not_running"
