"""Access tokens of every algorithm open the gateway and the sidecar; a change of algorithm refuses none of before."""

from __future__ import annotations

import base64
import json
import ssl
from typing import Any

import httpx
from tests.integration.conftest import TINY, Running, running, write_tiny
from tests.support import short_directory

PASSWORD = "a quiet river of glass 42"


def decoded(part: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return document


def log_in(system: Running) -> str:
    with gateway(system) as http:
        answer = http.post("/login", json={"email": "ann@tiny.example", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def gateway(system: Running) -> httpx.Client:
    context = ssl.create_default_context(cafile=system.ca)
    return httpx.Client(base_url=system.url, verify=context, timeout=20)


def test_each_algorithm_is_taken_everywhere_and_a_change_refuses_nothing() -> None:
    with short_directory("rt") as directory:
        held: list[str] = []
        port: int | None = 0  # the issuer's name holds it
        for algorithm in ("RS256", "EdDSA", "ES256"):
            app = write_tiny(directory / "app", f'{TINY}\n[tokens]\nsigning_algorithm = "{algorithm}"\n')
            with running(app, "--listen", f"127.0.0.1:{port}", state=directory / "s") as system:
                port = httpx.URL(system.url).port
                if not held:
                    added = system.run("user", "add", "--email", "ann@tiny.example", "--role", "user", input=PASSWORD)
                    assert added.returncode == 0, added.stderr
                held.append(log_in(system))
                assert decoded(held[-1].split(".")[0])["alg"] == algorithm
                with gateway(system) as http:
                    for token in held:
                        answer = http.get("/hello", headers={"authorization": f"Bearer {token}"})
                        assert answer.status_code == 200, (algorithm, answer.text)
                    keys = http.get("/auth/jwks.json").json()["keys"]
                assert [key["alg"] for key in keys[:3]] == ["RS256", "ES256", "EdDSA"]
