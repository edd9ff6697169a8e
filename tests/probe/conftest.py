"""A bank of its own, whose identity provider is probed through the gateway: what probes leave meets no other test."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from tests.integration.conftest import BANK, Running, running
from tests.probe.kit import Idp, registered


@pytest.fixture(scope="session")
def bank() -> Iterator[Running]:
    with running(BANK) as system:
        yield system


@pytest.fixture(scope="session")
def idp(bank: Running) -> Iterator[Idp]:
    with contextlib.closing(registered(bank)) as idp:
        yield idp
