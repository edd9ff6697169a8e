"""The real process is killed again and again while codes are redeemed: no code is answered twice, none comes back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from tests.authorize_support import CHALLENGE, VERIFIER
from tests.people_browser import Browser, sign_in
from tests.people_process import PeopleProcess
from tests.people_web import ISSUER, register, web
from tests.support import short_directory

EMAIL, PASSWORD, CALLBACK = "ann@bank.example", "a quiet river of glass 42", "https://app.example/cb"
ROUNDS, CODES = 3, 8


@pytest.fixture
def people() -> Iterator[PeopleProcess]:
    with short_directory() as directory:
        process = PeopleProcess(directory)
        try:
            process.start()
            with process.client("admin") as admin:
                admin.post("/users", json={"email": EMAIL, "role": "user", "password": PASSWORD}).raise_for_status()
            register(process, "spa", redirect_uris=[CALLBACK], method="none")
            yield process
        finally:
            process.close()


def test_no_code_is_answered_twice_whenever_the_process_is_killed(people: PeopleProcess) -> None:
    request = {"client_id": "spa", "redirect_uri": CALLBACK, "response_type": "code", "scope": "openid offline_access",
               "code_challenge": CHALLENGE, "code_challenge_method": "S256"}  # fmt: skip
    url = f"{ISSUER}/authorize?{urlencode(request)}"
    answered: dict[str, list[dict[str, str]]] = {}
    lock = threading.Lock()

    def redeem(code: str) -> None:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        try:
            with web(people) as http:
                answer = http.post("/auth/token", data={**form, "client_id": "spa"})
        except httpx.TransportError:
            return  # the answer was cut off
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            with lock:
                answered[code].append(answer.json())

    with web(people) as http:
        browser = Browser(http)
        for _ in range(ROUNDS):
            codes = [
                dict(parse_qsl(urlsplit(sign_in(browser, url, EMAIL, PASSWORD)).query))["code"] for _ in range(CODES)
            ]
            answered.update({code: [] for code in codes})
            with ThreadPoolExecutor(CODES) as pool:
                running = [pool.submit(redeem, code) for code in codes]
                running[0].result()  # the others are under way
                people.stop(signal.SIGKILL)
                people.start()
                for future in running:
                    future.result()
            spent = [code for code in codes if answered[code]]
            for code in codes:
                redeem(code)
                redeem(code)
            assert spent
            assert all(len(answered[code]) <= 1 for code in codes)
        with web(people) as other:
            for tokens in (given for each in answered.values() for given in each):
                again = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "spa"}
                assert other.post("/auth/token", data=again).json()["error"] == "invalid_grant"  # each code came again
