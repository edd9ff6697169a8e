"""An application without a server, on another origin, in Chromium: oauth4webapi through the real gateway (CORS)."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser
from tests.browser.conftest import chromium
from tests.integration.conftest import Running
from tests.node_support import SCRIPTS, node_modules
from tests.support import eventually

__all__ = ["chromium"]  # a fixture
pytestmark = pytest.mark.timeout(180)


class Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def application(bank: Running, tmp_path: Path) -> Iterator[str]:
    """The application's own origin, where nothing but files is served."""
    library = node_modules() / "oauth4webapi" / "build" / "index.js"
    shutil.copy(library, tmp_path / "oauth4webapi.js")
    shutil.copy(SCRIPTS / "browser_application.html", tmp_path / "index.html")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=str(tmp_path)))
    origin = f"http://127.0.0.1:{server.server_port}"
    client = f"it-page-{server.server_port}"
    (tmp_path / "given.json").write_text(json.dumps({"issuer": bank.status["issuer"], "client": client}))
    grants = ("--grant", "authorization_code", "--grant", "refresh_token", "--redirect-uri", f"{origin}/")
    scopes = [part for scope in ("openid", "profile", "email", "offline_access") for part in ("--scope", scope)]
    made = bank.run("client", "add", client, "--public", *grants, *scopes, "--json")
    assert made.returncode == 0, made.stderr
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield origin
    server.shutdown()
    thread.join(5)
    server.server_close()


def test_a_page_elsewhere_gets_tokens_by_fetch_and_reads_nothing_else(
    bank: Running, application: str, chromium: Browser
) -> None:
    person = bank.account("user")
    context = chromium.new_context(ignore_https_errors=True, locale="en")
    page = context.new_page()
    page.goto(f"{application}/")
    page.wait_for_url("**/auth/sign-in**")
    page.fill("#email", person["email"])
    page.fill("#password", person["password"])
    page.click("form:has(#password) button")
    page.wait_for_function("/done|failed/.test(document.getElementById('told')?.innerText)", timeout=60_000)
    told = page.inner_text("#told").splitlines()
    context.close()
    assert [line for line in told if line] == [
        "code: dpop",
        "keys: true",
        f"userinfo: {person['email']}",
        "refresh: true",
        "revoked",
        "refusal: 401 true",
        "with cookies: false",
        "done",
    ]


def test_the_gateway_lets_a_preflight_through_for_registered_origins_and_nothing_else(
    bank: Running, application: str
) -> None:
    context = ssl.create_default_context(cafile=bank.ca)
    with httpx.Client(base_url=bank.url, verify=context, timeout=10) as gateway:

        def preflight(path: str, origin: str) -> httpx.Response:
            asked = {"origin": origin, "access-control-request-method": "POST"}
            return gateway.request("OPTIONS", path, headers={**asked, "access-control-request-headers": "dpop"})

        eventually(lambda: preflight("/auth/token", application).status_code == 204, within=5)
        for path in ("/auth/token", "/auth/userinfo", "/.well-known/oauth-authorization-server/auth"):
            answer = preflight(path, application)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, application), path
            assert "access-control-allow-credentials" not in answer.headers
            refused = preflight(path, "https://evil.example")
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers
        for path in ("/auth/account", "/auth/admin/users", "/login", "/wallet", "/logs", "/users"):
            for origin in (application, "https://evil.example"):
                answer = preflight(path, origin)
                assert answer.status_code in (401, 403, 404, 405), (path, answer.status_code)
                assert not [name for name in answer.headers if name.startswith("access-control")], path
