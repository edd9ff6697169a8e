"""The examples of docs/protect-your-own-app.md, run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

from tests.sdk_support import ask, headers, verifier

from rempart.sdk.identify import Identifier
from rempart.wiring import settings

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "protect-your-own-app.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_node_example_is_the_one_shown() -> None:
    example = ROOT / "examples" / "node-hello"
    assert blocks("js")[0] == (example / "server.js").read_text()
    assert blocks("toml")[0] == (example / "rempart.toml").read_text()


def test_the_settings_are_accepted() -> None:
    for text in blocks("toml")[:2]:
        settings.parse(text, ROOT)


def test_every_key_is_listed() -> None:
    source = (ROOT / "src" / "rempart" / "wiring" / "settings.py").read_text()
    calls = r"\.(?:text|words|seconds|number|address|trust_domain|name|port|environment|spiffe_id)\(\s*\"(\w+)\""
    for key in set(re.findall(calls, source)):
        assert f"`{key}`" in TEXT, key


def test_the_python_example_works() -> None:
    space: dict[str, object] = {"__name__": "notes"}
    exec(compile(blocks("python")[0], "notes.py", "exec"), space)
    app = space["app"]
    app._identifier = Identifier(verifier())  # type: ignore[attr-defined]  # instead of people's keys over the network
    assert ask(app, "GET", "/notes", headers("ann")).json()["code"] == "no_note"
    wrote = ask(app, "POST", "/notes", headers("ann"), json={"text": "milk"})
    assert wrote.status_code == 201
    assert ask(app, "GET", "/notes", headers("ann")).json() == {"text": "milk"}
    assert ask(app, "POST", "/notes", headers("ann", "audit"), json={"text": "x"}).json()["code"] == "role_required"
    assert ask(app, "POST", "/notes", headers("ann"), json={"text": 1}).status_code == 400
    assert ask(app, "GET", "/notes").status_code == 401
