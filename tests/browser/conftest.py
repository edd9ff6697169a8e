"""Chromium, and pages on rooms in memory behind TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.pages_fakes import Site
from tests.pages_site import listen, serving

from rempart.people.pages.faces import page_routes
from rempart.people.requests import Origins, application

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Of a module and no longer: while playwright is there, its event loop is this thread's and no test has another."""
    with sync_playwright() as playwright:
        # --no-sandbox: as root Chromium starts in no other way.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def origin(site: Site, tmp_path: Path) -> Iterator[str]:
    """Where `site` is served."""
    listening = listen()
    issuer = f"https://localhost:{listening.getsockname()[1]}/auth"
    origins = Origins(gateway="spiffe://bank.example/rempart/gateway", client_ip_header="x-forwarded-for")
    routes = page_routes(site.rooms(), origins, site.clock, issuer=issuer, brand="bank.example", key=b"k" * 32)
    with serving(application(routes), listening, tmp_path) as url:
        yield url
