"""How pages and static files leave."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from rempart.people.pages import page
from rempart.people.pages.assets import Assets
from rempart.people.pages.page import content_security_policy
from rempart.people.requests import application

PAGES = Path(page.__file__).parent


def test_the_policy_lets_in_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert content_security_policy() == (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


@pytest.mark.parametrize("source", ["https://shop.example", "http://127.0.0.1:4000", "com.example.app:"])
def test_a_form_may_end_at_its_client(source: str) -> None:
    assert f"form-action 'self' {source};" in content_security_policy([source])


def test_an_application_is_named_by_its_scheme_alone() -> None:
    assert "form-action 'self' com.example.app:;" in content_security_policy(["com.example.app://callback"])


@pytest.mark.parametrize(
    "source",
    [
        "",
        "*",
        "https:",
        "data:",
        "javascript:",
        "https://a; script-src *",
        "https://a b",
        "'none'",
        "https://a\n",
        "//a",
    ],
)
def test_what_is_no_origin_does_not_get_into_the_policy(source: str) -> None:
    assert content_security_policy([source]) == content_security_policy()


def test_templates_have_no_inline_style_script_or_handler_and_no_opt_out_of_escaping() -> None:
    for template in (PAGES / "templates").glob("*.html"):
        text = template.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe|autoescape|<script(?! src=)", text), (
            template
        )


def test_static_files_are_kept_for_good_under_the_hash_of_their_content() -> None:
    async def ask() -> None:
        assets = Assets()
        transport = httpx.ASGITransport(application(assets.routes()))
        async with httpx.AsyncClient(transport=transport, base_url="https://people") as client:
            for name, kind in (("pages.css", "text/css"), ("passkeys.js", "text/javascript"), ("mark.svg", "image/")):
                answer = await client.get(assets.path(name))
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith(kind)
                assert "immutable" in answer.headers["cache-control"]
                assert answer.headers["x-content-type-options"] == "nosniff"
                plain = await client.get(f"/auth/static/{name}")
                assert (plain.content, plain.headers["cache-control"]) == (answer.content, "public, max-age=300")
            for wrong in ("pages.0000000000000000.css", "..%2fpage.py", "%00", "x" * 5000):
                assert (await client.get(f"/auth/static/{wrong}")).status_code == 404

    asyncio.run(ask())


def test_the_style_sheet_asks_for_nothing_from_elsewhere() -> None:
    text = (PAGES / "static" / "pages.css").read_text()
    assert "@import" not in text
    assert "url(" not in text


def test_nothing_heavy_is_loaded_before_the_first_page() -> None:
    asked = (
        "import sys, rempart.servers.people; print([m for m in ('jinja2', 'segno', 'webauthn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
