"""Another application than the bank: nothing gets through, and what only the bank has isn't counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.conftest import running

pytestmark = pytest.mark.timeout(600)

SERVER = """
import http.server, os, socketserver

class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def address_string(self):
        return "sidecar"

    def log_message(self, *arguments):
        pass

class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

Unix(os.environ["REMPART_LISTEN"].removeprefix("unix:"), Hello).serve_forever()
"""
QUICK = ("S", "T", "R", "I", "E")  # D takes 30 s and is the gateway's alone: the bank's run covers it


def _application(directory: Path, listen: str) -> Path:
    (directory / "server.py").write_text(SERVER)
    (directory / "rempart.toml").write_text(
        '[app]\nname = "hello"\ntrust_domain = "hello.example"\n\n[[service]]\nname = "web"\n'
        f'command = ["/usr/bin/env", "python3", "server.py"]\n{listen}\nroutes = ["/hello"]\n'
    )
    return directory


def test_on_another_application_all_that_is_tried_is_blocked(tmp_path: Path) -> None:
    with running(_application(tmp_path, 'socket = "web.sock"')) as hello:
        done = hello.run("attack", "--json", *(part for id in QUICK for part in ("--only", id)), timeout=500)
        report = json.loads(done.stdout)
    assert {one["id"]: one["observed"] for one in report["attacks"] if one["blocked"] is False} == {}
    assert done.returncode == 0
    assert report["tried"] > 90
    by_id = {one["id"]: one for one in report["attacks"]}
    assert by_id["T-race"]["blocked"] is None
    assert "this application has no /wallet" in by_id["T-race"]["observed"]
    assert by_id["S-jwt-alg-none"]["blocked"] is True
