"""Every text in every language, and the choice between them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rempart.people.pages import languages
from rempart.people.pages.activity import SHOWN
from rempart.people.pages.languages import LANGUAGES, Texts, catalogue, choose

PAGES = Path(languages.__file__).parent
_FILLED = re.compile(r"\{([a-z_]+)\}")
_USED = re.compile(r"""\bt(?:\.plain)?\(["']([a-z_.-]+)["']( ~)?""")
_LABELS = re.compile(
    r"""\b(?:field|passkey)\(["'][a-z_]+["'], (?:options, )?["']([a-z_.]+)["']|hint=["']([a-z_.]+)["']"""
)


def used() -> tuple[set[str], set[str]]:
    """Keys that templates and modules name, and beginnings of those that they put together."""
    keys: set[str] = set()
    prefixes: set[str] = set()
    for template in (PAGES / "templates").glob("*.html"):
        text = template.read_text()
        for key, joined in _USED.findall(text):
            (prefixes if joined else keys).add(key)
        keys |= {key for pair in _LABELS.findall(text) for key in pair if key}
    for module in PAGES.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            match node:
                case ast.Call(func=function, args=[ast.Constant(value=str(key)), *_]):
                    keys |= {key} if ast.unparse(function).endswith("texts.plain") else set()
    return keys, prefixes


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_missing_in_any_language(language: str) -> None:
    keys, prefixes = used()
    texts = catalogue(language)
    assert len(keys) > 120
    assert keys - set(texts) == set()
    assert {prefix for prefix in prefixes if not any(key.startswith(prefix) for key in texts)} == set()
    assert {f"event.{kind}" for kind in SHOWN} - set(texts) == set()
    assert all(text.strip() == text and text for text in texts.values())


def test_languages_have_the_same_texts_with_the_same_blanks() -> None:
    english = catalogue("en")
    for language in LANGUAGES:
        other = catalogue(language)
        assert list(other) == list(english)
        for key, text in english.items():
            assert sorted(_FILLED.findall(other[key])) == sorted(_FILLED.findall(text)), key


def test_a_translation_is_no_copy() -> None:
    same = {key for key, text in catalogue("en").items() if catalogue("fr")[key] == text}
    assert same == {"account.applications", "device.code", "sessions.kind.api"}


@pytest.mark.parametrize(
    ("asked", "kept", "ui_locales", "accept", "expected"),
    [
        (None, None, "", "", "en"),
        (None, None, "", "fr", "fr"),
        (None, None, "", "fr-CA;q=0.5, en;q=0.4", "fr"),
        (None, None, "", "de, en;q=0.1, fr;q=0.9", "fr"),
        (None, None, "", "fr;q=0, en;q=0.1", "en"),
        (None, None, "fr-FR en", "en", "fr"),
        (None, "en", "fr", "fr", "en"),
        ("fr", "en", "", "en", "fr"),
        ("xx", None, "zz", "*;q=1, !!, fr;q=2", "en"),
    ],
)
def test_the_choice(asked: str | None, kept: str | None, ui_locales: str, accept: str, expected: str) -> None:
    assert choose(asked=asked, kept=kept, ui_locales=ui_locales, accept=accept) == expected


@given(st.text(), st.text(), st.text(), st.text())
def test_whatever_is_sent_a_language_comes_out(asked: str, kept: str, ui_locales: str, accept: str) -> None:
    assert choose(asked=asked, kept=kept, ui_locales=ui_locales, accept=accept) in LANGUAGES


@given(st.text())
def test_what_is_filled_in_is_text_and_nothing_else(name: str) -> None:
    told = str(Texts("en")("consent.title", client=name))
    inside = told.removeprefix("Let <bdi>").removesuffix("</bdi> in?")
    assert "<" not in inside
    assert ">" not in inside
    assert not set(inside) & set("\u202e\u202d\u2066\u2067\u200b\ufeff\x00\n")


def test_what_is_filled_in_fills_nothing_in() -> None:
    assert "{client}" in Texts("en").plain("consent.title", client="{client} {email}")


def test_a_moment_is_said_in_the_language_of_the_page() -> None:
    assert Texts("fr").moment(1_790_000_000) == "21 septembre 2026, 14:13 UTC"
    assert Texts.iso(1_790_000_000) == "2026-09-21T14:13Z"
