"""Each attack is stopped by the control that it is said to be stopped by: without that control it gets through, and
those of the other controls don't.
"""

from __future__ import annotations

import json

import pytest
from tests.integration.conftest import BANK, running

pytestmark = pytest.mark.timeout(600)

# control → the attacks that only it stops
STOPS = {
    "tls-version": {"I-tls-1.0", "I-tls-1.1"},
    "request-size": {"D-large-body", "D-endless-body"},
    "rate-limit-ip": {"D-rate"},
    "login-throttle": {"S-guessing", "S-guessing-spread", "S-spray-page", "S-totp-guess"},
    "refresh-rotation": {"S-refresh-reuse"},
    "policy": {"E-agent-wallet", "E-agent-transfer", "E-agent-rollback", "E-agent-with-token", "E-csrf"},
    "timeouts": {"D-slow-headers", "D-slow-body", "D-slow-handshake"},
}
SLOW = STOPS["timeouts"]


@pytest.mark.parametrize("control", STOPS)
def test_without_its_control_exactly_its_attacks_get_through(control: str) -> None:
    """The slow ones are tried only where it is their control that is off: they would take their time in vain."""
    tried = {id for ids in STOPS.values() for id in ids if id not in SLOW or control == "timeouts"}
    with running(BANK, "--unsafe-disable", control) as bank:
        assert control in bank.status["unsafe_disabled"]
        done = bank.run("attack", "--json", *(part for id in sorted(tried) for part in ("--only", id)), timeout=500)
        attacks = {one["id"]: one for one in json.loads(done.stdout)["attacks"]}
        through = {id for id, one in attacks.items() if one["blocked"] is False}
        assert (through, set(attacks)) == (STOPS[control], tried), {id: attacks[id]["observed"] for id in tried}
        assert done.returncode == 1
