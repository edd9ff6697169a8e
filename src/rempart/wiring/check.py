"""Reading one TOML table strictly: every wrong value and every unknown key becomes a Problem with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rempart.kernel.errors import BadInput
from rempart.kernel.spiffe import SpiffeId, parse_trust_domain
from rempart.workloads.model import Selector

from .locate import KeyPath, line_of

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_ROUTE = re.compile(r"(/[A-Za-z0-9._~-]+)+/?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_FORBIDDEN_ENV = ("REMPART_", "SPIFFE_", "LD_", "LISTEN_")


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    reason: str
    remedy: str


@dataclass(slots=True)
class Problems:
    """Gathers what is wrong, so that it can be shown all together."""

    positions: dict[KeyPath, int]
    found: list[Problem] = field(default_factory=list)

    def add(self, path: KeyPath, reason: str, remedy: str = "") -> None:
        problem = Problem(line_of(self.positions, path), reason, remedy)
        if problem not in self.found:
            self.found.append(problem)

    def sorted(self) -> list[Problem]:
        return sorted(self.found, key=lambda problem: problem.line)


class Reader:
    """A table and the path that leads to it. Each method takes one key; `no_more` refuses what nobody took.

    A wrong value is noted and replaced by a harmless one of the right type, so that reading goes on.
    """

    def __init__(self, table: Mapping[str, Any], path: KeyPath, problems: Problems) -> None:
        self.content = table
        self.path = path
        self.problems = problems
        self.known: list[str] = []
        self._failed: set[str] = set()

    def refuse(self, key: str, reason: str, remedy: str = "") -> None:
        self._failed.add(key)
        self.problems.add((*self.path, key) if key else self.path, reason, remedy)

    def failed(self, *keys: str) -> bool:
        return any(key in self._failed for key in keys)

    def no_more(self) -> None:
        for key in self.content:
            if key not in self.known:
                import difflib  # for mistakes alone

                near = difflib.get_close_matches(key, self.known, 1)
                remedy = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(self.known)
                self.refuse(key, f"unknown key {self._dotted(key)!r}", remedy)

    def _dotted(self, key: str) -> str:
        return ".".join([*(part for part in self.path if isinstance(part, str)), key])

    def _take(self, key: str, kind: type, words: str, *, required: bool = False) -> Any:
        self.known.append(key)
        value = self.content.get(key)
        if value is None:
            if required:
                self.refuse(key, f"{self._dotted(key)!r} is missing", f"add it: {words}")
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(key, f"{self._dotted(key)!r} must be {words}, not {type(value).__name__}")
            return None
        return value

    def table(self, key: str, *, required: bool = False) -> Reader:
        value = self._take(key, dict, f"a table [{key}]", required=required)
        reader = Reader({} if value is None else value, (*self.path, key), self.problems)
        if value is None and required:
            return _Silent({}, reader.path, Problems({}))
        return reader

    def tables(self, key: str) -> list[Reader]:
        value = self._take(key, list, f"an array of tables [[{key}]]") or []
        readers = []
        for index, item in enumerate(value):
            if isinstance(item, dict):
                readers.append(Reader(item, (*self.path, key, index), self.problems))
            else:
                self.refuse(key, f"{key!r} must be an array of tables", f"write [[{key}]]")
        return readers

    def text(self, key: str, *, pattern: str = "", required: bool = False, default: str = "") -> str:
        value = self._take(key, str, "a string", required=required)
        if value is None:
            return default
        if not value or "\0" in value or (pattern and not re.fullmatch(pattern, value)):
            self.refuse(
                key, f"{self._dotted(key)!r} can't be {value[:80]!r}", f"it must match {pattern}" if pattern else ""
            )
            return default
        return str(value)

    def name(self, key: str, *, required: bool = False, reserved: frozenset[str] = frozenset()) -> str:
        value = self.text(key, required=required)
        if not value:
            return ""
        if not _NAME.fullmatch(value):
            self.refuse(
                key,
                f"{value[:80]!r} is not a name",
                "use lower-case letters, digits and dashes, at most 40, a letter first",
            )
        elif value in reserved or value.endswith("-sidecar"):
            self.refuse(key, f"the name {value!r} is reserved", "choose another")
        return value

    def yes(self, key: str) -> bool:
        return bool(self._take(key, bool, "true or false"))

    def words(self, key: str, *, required: bool = False) -> tuple[str, ...]:
        value = self._take(key, list, "an array of strings", required=required)
        if value is None:
            return ()
        if not all(isinstance(item, str) and item and "\0" not in item for item in value):
            self.refuse(key, f"{self._dotted(key)!r} must be an array of non-empty strings")
            return ()
        if required and not value:
            self.refuse(key, f"{self._dotted(key)!r} is empty", "name the program and its arguments")
        if key != "command" and key != "demo" and len(set(value)) < len(value):
            self.refuse(key, f"{self._dotted(key)!r} has the same element twice", "leave one out")
        return tuple(value)

    def port(self, key: str) -> int | None:
        value = self._take(key, int, "a port number")
        if value is not None and not 1 <= value <= 65535:
            self.refuse(key, f"{value} is not a port", "choose one from 1024 to 65535")
            return None
        return None if value is None else int(value)

    def seconds(self, key: str, default: int, *, at_least: int, at_most: int) -> int:
        return self.number(key, default, at_least=at_least, at_most=at_most, unit=" seconds")

    def number(self, key: str, default: int, *, at_least: int = 1, at_most: int, unit: str = "") -> int:
        value = self._take(key, int, "a number of seconds" if unit else "a whole number")
        if value is None:
            return default
        if not at_least <= value <= at_most:
            self.refuse(key, f"{self._dotted(key)!r} is {value}", f"choose from {at_least} to {at_most}{unit}")
            return default
        return int(value)

    def address(self, key: str, host: str, port: int) -> tuple[str, int]:
        value = self.text(key)
        if not value:
            return host, port
        try:
            return parse_address(value)
        except BadInput as error:
            self.refuse(key, error.reason, error.remedy)
            return host, port

    def trust_domain(self, key: str, *, required: bool = False) -> str:
        value = self.text(key, required=required)
        try:
            return parse_trust_domain(value) if value else "invalid"
        except BadInput as error:
            self.refuse(key, error.reason, error.remedy)
            return "invalid"

    def spiffe_id(self, key: str, *, default: str) -> str:
        value = self.text(key)
        if not value:
            return default
        try:
            return str(SpiffeId.parse(value))
        except BadInput as error:
            self.refuse(key, error.reason, error.remedy)
            return ""

    def route(self, index: int, value: str, reserved: tuple[str, ...]) -> str:
        if not _ROUTE.fullmatch(value) or "/./" in value + "/" or "/../" in value + "/":
            self.refuse("routes", f"{value[:80]!r} is not a route", "write a path prefix such as /wallet")
        for taken in reserved:
            if value.rstrip("/") == taken or value.startswith(taken + "/"):
                self.refuse("routes", f"the route {value!r} is reserved for Rempart", "choose another prefix")
        return value.rstrip("/")

    def selector(self, index: int, value: str) -> str:
        try:
            if Selector.parse(value).type != "supervisor":
                return value
            reason, remedy = f"{value[:80]!r} is for Rempart's own use", "write unix:, systemd:, docker: or k8s:"
        except BadInput as error:
            reason, remedy = error.reason, error.remedy
        self.refuse("selectors", reason, remedy)
        return value

    def environment(self, key: str) -> dict[str, str]:
        value = self._take(key, dict, "a table of strings") or {}
        out = {}
        for name, text in value.items():
            if not _ENV_NAME.fullmatch(name) or not isinstance(text, str) or "\0" in text:
                self.refuse(key, f"{name[:80]!r} in {self._dotted(key)!r} is not a variable with a string value")
            elif name.startswith(_FORBIDDEN_ENV):
                self.refuse(key, f"the variable {name!r} is set by Rempart", "choose another name")
            else:
                out[name] = text
        return out


class _Silent(Reader):
    """Stands for a table that is missing: that has been said once, its keys needn't be asked for as well."""


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` with an IP address; port 0 means any free one. Raises BadInput `bad_address`."""
    import ipaddress

    host, colon, port = text.rpartition(":")
    try:
        if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise ValueError
        return str(ipaddress.ip_address(host.strip("[]"))), int(port)
    except ValueError:
        raise BadInput(
            "bad_address", f"{text[:80]!r} is not an address", "write IP:PORT, as in 127.0.0.1:8443"
        ) from None
