"""On which line of a TOML file is a key? Python's tomllib doesn't say.

`lines(text)` maps key paths to line numbers, starting at 1: `("service", 1, "port") -> 12`; the elements of an array of
tables are numbered from 0. The text has been accepted by tomllib before, so this reads only as much of TOML 1.0.0 as
positions need: comments, bare, quoted and dotted keys, `[table]`, `[[array of tables]]`, strings of the four kinds, and
arrays and inline tables over several lines (inside which keys are not located).
"""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_PLAIN = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def lines(text: str) -> dict[KeyPath, int]:
    """The first line of every key and table that the locator recognises."""
    return _Scanner(text).scan()


def line_of(positions: dict[KeyPath, int], path: KeyPath) -> int:
    """The line of `path`, else of the nearest thing around it, else 1."""
    for length in range(len(path), 0, -1):
        if path[:length] in positions:
            return positions[path[:length]]
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.found: dict[KeyPath, int] = {}
        self.counts: dict[KeyPath, int] = {}

    def scan(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self.at < len(self.text):
            self._blank()
            if self.at >= len(self.text):
                break
            start = self.at
            if self.text.startswith("[[", self.at):
                self.at += 2
                table = self._resolve(self._keys(), append=True)
                self._note(table, start)
            elif self.text[self.at] == "[":
                self.at += 1
                table = self._resolve(self._keys(), append=False)
                self._note(table, start)
            else:
                keys = self._keys()
                if not keys:  # not TOML: tomllib has refused it already
                    break
                for length in range(1, len(keys) + 1):
                    self._note((*table, *keys[:length]), start)
                self._skip_value()
            self._rest_of_line()
        return self.found

    def _note(self, path: KeyPath, at: int) -> None:
        self.found.setdefault(path, self.text.count("\n", 0, at) + 1)

    def _resolve(self, keys: list[str], *, append: bool) -> KeyPath:
        """A header's keys as a path: within an array of tables the last element is meant."""
        path: KeyPath = ()
        for index, key in enumerate(keys):
            path = (*path, key)
            if append and index == len(keys) - 1:
                self.counts[path] = self.counts.get(path, -1) + 1
            if path in self.counts:
                path = (*path, self.counts[path])
        return path

    def _blank(self) -> None:
        while self.at < len(self.text):
            if self.text[self.at] in " \t\n":
                self.at += 1
            elif self.text[self.at] == "#":
                self._rest_of_line()
            else:
                return

    def _rest_of_line(self) -> None:
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end + 1

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while self.at < len(self.text):
            while self.at < len(self.text) and self.text[self.at] in " \t":
                self.at += 1
            if self.at < len(self.text) and self.text[self.at] in "\"'":
                quote = self.text[self.at]
                end = self._string_end(self.at)
                raw = self.text[self.at + 1 : end - 1]
                keys.append(raw if quote == "'" else _ESCAPE.sub(_unescape, raw))
                self.at = end
            elif bare := _BARE.match(self.text, self.at):
                keys.append(bare.group())
                self.at = bare.end()
            else:
                return keys
            while self.at < len(self.text) and self.text[self.at] in " \t":
                self.at += 1
            if self.at < len(self.text) and self.text[self.at] == ".":
                self.at += 1
                continue
            return keys
        return keys

    def _string_end(self, at: int) -> int:
        """The index after the string that starts at `at`."""
        quote = self.text[at]
        fence = quote * 3 if self.text.startswith(quote * 3, at) else quote
        at += len(fence)
        while at < len(self.text):
            if self.text[at] == "\\" and quote == '"':
                at += 2
            elif self.text.startswith(fence, at):
                at += len(fence)
                while len(fence) == 3 and at < len(self.text) and self.text[at] == quote:
                    at += 1  # up to two quotes may stand before the closing fence
                return at
            else:
                at += 1
        return len(self.text)

    def _skip_value(self) -> None:
        depth = 0
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in "\"'":
                self.at = self._string_end(self.at)
                continue
            if char == "#":
                if not depth:
                    return
                self._rest_of_line()
                continue
            if char == "\n" and not depth:
                return
            depth += (char in "[{") - (char in "]}")
            self.at += 1


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1)
    if code[0] in "uU" and len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else "\ufffd"
    return _PLAIN.get(code, code)
