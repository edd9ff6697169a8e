"""What must hold on every page, in both languages and colour schemes, on a phone and on a desk."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Response
from tests.node_support import node_modules
from tests.pages_fakes import Site
from tests.pages_tour import HARMLESS, tour

DESK, PHONE = {"width": 1100, "height": 800}, {"width": 360, "height": 700}
# In a world of its own, since the pages' policy lets no other script in.
_RUN = "axe.run(document, {resultTypes: ['violations']})"


@pytest.mark.parametrize(("language", "scheme", "size"), [("en", "light", DESK), ("fr", "dark", PHONE)])
@pytest.mark.timeout(400)  # forty pages, looked at by axe, on a machine that may be busy
def test_axe_finds_nothing_the_console_is_silent_and_all_is_wide_enough(
    chromium: Browser, site: Site, origin: str, language: str, scheme: Any, size: Any
) -> None:
    context = chromium.new_context(
        ignore_https_errors=True, locale=language, color_scheme=scheme, viewport=size, reduced_motion="reduce"
    )
    context.set_default_timeout(30_000)
    page = context.new_page()
    complaints: list[str] = []
    axe = (node_modules() / "axe-core" / "axe.min.js").read_text()

    def heard(message: ConsoleMessage) -> None:
        if HARMLESS not in message.text:
            complaints.append(message.text)

    def answered(response: Response) -> None:
        if response.status >= 500:
            complaints.append(f"{response.status} {response.url}")

    page.on("console", heard)
    page.on("response", answered)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    devtools = context.new_cdp_session(page)
    visited = []
    try:
        for name in tour(site, page, origin):
            visited.append(name)
            world = devtools.send(
                "Page.createIsolatedWorld",
                {"frameId": devtools.send("Page.getFrameTree")["frameTree"]["frame"]["id"], "worldName": "axe"},
            )
            inside = {"contextId": world["executionContextId"], "awaitPromise": True, "returnByValue": True}
            devtools.send("Runtime.evaluate", {"expression": axe, **inside, "returnByValue": False})
            found = devtools.send("Runtime.evaluate", {"expression": _RUN, **inside})["result"]["value"]
            assert any(each["id"] == "color-contrast" for each in found["passes"]), f"{name}: axe did not look"
            told = [
                (each["id"], [node["html"][:200] + " " + node["failureSummary"] for node in each["nodes"]])
                for each in found["violations"]
            ]
            assert told == [], f"{name}: {json.dumps(told, indent=1)}"
            assert page.locator("html").get_attribute("lang") == language
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], name
    finally:
        context.close()
    assert len(visited) == len(set(visited)) > 35
    assert complaints == []
