"""How an agent shows who it is, by the words that a command or a plan holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sink_certificates import make_pki

from rempart.kernel.errors import BadInput
from rempart.servers.agent_evidence import MAX_FILE, evidence_of, evidence_to_join_again
from rempart.workloads.agents.evidence import Possessed, ProjectedToken, ShownToken


def test_each_way_is_understood(tmp_path: Path) -> None:
    pki = make_pki(tmp_path, "server", "client")
    cert, key, token = str(pki.path("client.pem")), str(pki.path("client.key")), str(tmp_path / "token")
    Path(token).write_text("t")
    assert isinstance(evidence_of(()), ShownToken)
    assert isinstance(evidence_of(("join_token", token)), ShownToken)
    assert isinstance(evidence_of(("x509pop", cert, key)), Possessed)
    assert isinstance(evidence_of(("svid", cert, key)), Possessed)
    assert isinstance(evidence_of(("k8s", "c1", token)), ProjectedToken)


def test_what_is_wrong_with_the_files_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (MAX_FILE + 1))
    for told in (("x509pop", "/nowhere", "/nowhere"), ("join_token", str(tmp_path / "large"))):
        with pytest.raises(BadInput) as refused:
            evidence_of(told)
        assert refused.value.code == "unreadable_file"


def test_who_joined_goes_on_without_files_that_only_root_may_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(evidence_to_join_again(("x509pop", "/nowhere", "/nowhere")), ShownToken)
    assert "can't join again by itself" in capsys.readouterr().err
