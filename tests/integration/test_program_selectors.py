"""Selectors of the program give identities to processes that nobody supervises, whoever identity runs as."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest
from tests.integration.conftest import Running, running, write_tiny
from tests.support import short_directory

NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}


def spiffe_ids(system: Running, **who: object) -> list[str]:
    """The identities of a command of our own, which runs as nobody's child but ours."""
    done = system.run("svid", "x509", "--json", **who)
    return [svid["spiffe_id"] for svid in json.loads(done.stdout)["svids"]] if done.returncode == 0 else []


def check(system: Running, directory: Path, **who: object) -> None:
    interpreter = os.path.realpath(sys.executable)
    digest = hashlib.sha256(Path(interpreter).read_bytes()).hexdigest()
    cases = {
        "by-path": f"unix:path:{interpreter}",
        "by-hash": f"unix:sha256:{digest}",
        "other-path": "unix:path:/bin/true",
        "other-hash": "unix:sha256:" + "0" * 64,
    }
    entries = [
        {"spiffe_id": f"spiffe://tiny.example/{name}", "selectors": [selector]} for name, selector in cases.items()
    ]
    assert spiffe_ids(system, **who) == []
    file = directory / "entries.yaml"
    file.write_text(json.dumps({"entries": entries}))
    applied = system.run("entry", "apply", str(file), **who)
    assert applied.returncode == 0, applied.stderr
    try:
        found = spiffe_ids(system, **who)
    finally:
        for name in cases:
            system.run("entry", "delete", f"spiffe://tiny.example/{name}", **who)
    assert sorted(found) == ["spiffe://tiny.example/by-hash", "spiffe://tiny.example/by-path"]


def test_path_and_hash_of_the_interpreter(tiny: Running, tmp_path: Path) -> None:
    check(tiny, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give root up")
def test_path_and_hash_as_an_ordinary_user() -> None:
    with short_directory("ps") as directory:
        app = write_tiny(directory / "app")
        os.chmod(directory, 0o755)
        home = directory / "home"
        home.mkdir()
        os.chown(home, 65534, 65534)
        more = {"cwd": home, "env": {"HOME": str(home)}, **NOBODY}
        with running(app, state=home / "s", **more) as system:
            check(system, home, **more)
