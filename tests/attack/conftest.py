"""A bank of its own for the adversary: what attacks leave behind must not meet other tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.conftest import BANK, Running, running


@pytest.fixture(scope="session")
def bank() -> Iterator[Running]:
    with running(BANK) as system:
        yield system
