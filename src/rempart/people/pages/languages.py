"""Which language a page is in, and its texts: one catalogue file per language, every text in every file."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from functools import cache
from importlib import resources

from markupsafe import Markup, escape

LANGUAGES = {"en": "English", "fr": "Français"}
DEFAULT = "en"
LANGUAGE_COOKIE = "__Host-rempart-language"
_RANGE = re.compile(r"([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,40})?(?:;q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?")
_FIELD = re.compile(r"\{([a-z_]+)\}")
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Loaded once, at the first page in that language."""
    text = resources.files(__package__).joinpath("texts", f"{language}.json").read_text("utf-8")
    texts: dict[str, str] = json.loads(text)
    return texts


def choose(*, asked: str | None, kept: str | None, ui_locales: str = "", accept: str = "") -> str:
    """The person's own choice, just now or kept; then the client's `ui_locales`; then the browser's list
    (RFC 9110 section 12.5.4)."""
    for choice in (asked, kept):
        if choice in LANGUAGES:
            return choice
    for tag in ui_locales[:200].split():
        if tag.partition("-")[0].lower() in LANGUAGES:
            return tag.partition("-")[0].lower()
    best, weight = DEFAULT, 0.0
    for item in accept[:400].split(","):
        found = _RANGE.fullmatch("".join(item.split()))
        if found and found[1].lower() in LANGUAGES and float(found[2] or "1") > weight:
            best, weight = found[1].lower(), float(found[2] or "1")
    return best


def visible(text: object) -> str:
    """Without characters that hide, or reorder what stands around them: a stranger chose this text."""
    return _UNSEEN.sub("", str(text))


class Texts:
    """The texts of one language. A missing key raises KeyError: a test walks them all."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, key: str, /, **values: object) -> Markup:
        """The text as HTML: values are escaped, each in a `bdi`, so that none turns its neighbours around."""
        return Markup(  # nosec B704 - the text is ours, and what is filled in was escaped
            _FIELD.sub(lambda found: f"<bdi>{escape(visible(values[found[1]]))}</bdi>", str(escape(self._texts[key])))
        )

    def plain(self, key: str, /, **values: object) -> str:
        """For titles and attributes, which are escaped where they are written."""
        return _FIELD.sub(lambda found: visible(values[found[1]]), self._texts[key])

    def has(self, key: str) -> bool:
        return key in self._texts

    @staticmethod
    def iso(at: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(at))

    def moment(self, at: float) -> str:
        """Minute and day in UTC: a page without script does not know where its reader is."""
        then = time.gmtime(at)
        month = self._texts[f"month.{then.tm_mon}"]
        return f"{then.tm_mday} {month} {then.tm_year}, {then.tm_hour:02}:{then.tm_min:02} UTC"
