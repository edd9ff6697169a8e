"""What an application lacks isn't attacked there, and what is wide open is said to be."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest
from tests.unit.attack.naive import naive_system

from rempart.attack import host, money
from rempart.attack.campaign import _run
from rempart.attack.model import Attack
from rempart.attack.paths import SPELLINGS, spelled
from rempart.attack.scene import Scene


@pytest.fixture
def naive() -> Iterator[Scene]:
    with naive_system() as scene:
        yield scene


def attack(module: ModuleType, id: str) -> Attack:
    found: Iterator[Attack] = module.attacks()
    return next(one for one in found if one.id == id)


def test_a_need_that_is_there_is_no_lack_and_the_others_are_named(naive: Scene) -> None:
    assert naive.lacks(("/wallet", "/payments", "/users")) == ""
    assert naive.lacks(("/wallet", "deposit-agent")) == "deposit-agent"


def test_a_route_of_the_same_name_at_another_service_isnt_the_banks(naive: Scene) -> None:
    naive.routes = {"/users": "crm"}
    assert "/users" in naive.lacks(("/users",))
    assert naive.private == "/logs"
    assert naive.declares("/users/x")
    assert not naive.declares("/usersx")


def test_what_needs_the_bank_isnt_tried_elsewhere_and_says_why(naive: Scene) -> None:
    naive.routes = {"/hello": "web"}
    outcome = _run(naive, attack(money, "T-race")).outcome
    assert outcome.blocked is None
    assert outcome.observed.startswith("this application has no /wallet")


def test_a_service_on_tcp_that_answers_has_been_reached_around_its_sidecar(naive: Scene) -> None:
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Tests are quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            naive.addresses = {"web": f"127.0.0.1:{server.server_port}"}
            outcome = _run(naive, attack(host, "E-tcp-services")).outcome
        finally:
            server.shutdown()
            thread.join(5)
    assert outcome.blocked is False
    assert "socket" in outcome.observed
    naive.addresses = {"web": "unix:/run/x.sock"}
    assert _run(naive, attack(host, "E-tcp-services")).outcome.blocked is None


def test_paths_are_spelled_for_either_pair_of_names() -> None:
    every = [spelled(one, "users", "wallet") for _, _, spellings in SPELLINGS for one in spellings]
    assert {"//users", "/wallet/../users", "/%2575sers", "/uSeRs", "/us%65rs", "/%55sers", "/u\u017fers"} <= set(every)
    other = [spelled(one, "logs", "auth") for _, _, spellings in SPELLINGS for one in spellings]
    assert {"/auth/../logs", "/%6cogs", "/lo%67s", "/log\u017f", "/LOGS", "/%4cogs"} <= set(other)
    assert [one for one in other if "users" in one or "wallet" in one or "{" in one] == []
