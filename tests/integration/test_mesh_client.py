"""A workload is an OAuth client by its SPIFFE ID: mutual TLS through real sidecars, no secret anywhere (RFC 8705)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import HELLO, TINY, Running, running
from tests.support import short_directory

pytestmark = pytest.mark.timeout(120)

ASK = """
import http.client, os, socket, sys, urllib.parse, urllib.request
where = urllib.parse.urlsplit(os.environ["REMPART_PEOPLE_URL"])
class Way(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(urllib.parse.unquote(where.netloc))
way = Way("people") if where.scheme == "http+unix" else http.client.HTTPConnection(where.netloc)
form = {"grant_type": "client_credentials", "client_id": sys.argv[1]}
way.request("POST", "/auth/token", urllib.parse.urlencode(form), {"content-type": "application/x-www-form-urlencoded"})
answer = way.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.fixture(scope="module")
def system() -> Iterator[Running]:
    with short_directory("rm") as directory:
        app: Path = directory / "app"
        app.mkdir()
        clients = '\n[[client]]\nname = "robot"\ncalls = ["people"]\n\n[[client]]\nname = "other"\ncalls = ["people"]\n'
        (app / "rempart.toml").write_text(TINY + clients)
        (app / "hello.py").write_text(HELLO)
        with running(app) as started:
            grant = ("--grant", "client_credentials", "--scope", "reports")
            added = started.run(
                "client", "add", "robot", "--spiffe-id", "spiffe://tiny.example/robot", *grant, "--json"
            )
            assert added.returncode == 0, added.stderr
            yield started


def ask(system: Running, workload: str) -> tuple[int, dict[str, object]]:
    done = system.run("run", workload, "--", sys.executable, "-c", ASK, "robot", cwd="/")
    assert done.returncode == 0, done.stderr
    status, _, body = done.stdout.partition(" ")
    return int(status), json.loads(body)


def test_the_workload_gets_a_token_by_its_svid_alone(system: Running) -> None:
    status, token = ask(system, "robot")
    assert (status, token["token_type"]) == (200, "Bearer"), token


def test_another_workload_that_names_it_gets_none(system: Running) -> None:
    status, refusal = ask(system, "other")
    assert (status, refusal["error"]) == (401, "invalid_client")
