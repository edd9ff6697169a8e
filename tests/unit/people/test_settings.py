"""Settings that would weaken or break the process stop it at the start, with the remedy."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.people_fakes import MemoryRecorder

from rempart.kernel.errors import BadInput
from rempart.servers.people import compose
from rempart.wiring.process_people import PeopleSettings


@pytest.mark.parametrize(
    "setting",
    [{"argon2_workers": 0}, {"access_ttl": 0}, {"access_ttl": 10**6}, {"refresh_ttl": -1},
     {"signing_algorithm": "HS256"}, {"signing_algorithm": "none"}, {"signing_key_ttl": 1}],
)  # fmt: skip
def test_a_setting_out_of_bounds_is_refused(setting: dict[str, Any], tmp_path: Path) -> None:
    settings = PeopleSettings(issuer="https://localhost:8443/auth", audience="bank.example", **setting)
    with pytest.raises(BadInput) as refusal:
        asyncio.run(compose(settings, tmp_path, b"k" * 32, MemoryRecorder()))
    assert refusal.value.code == "bad_settings"
    assert next(iter(setting)) in refusal.value.reason
    assert refusal.value.remedy
    assert list(tmp_path.iterdir()) == []
