"""Where a service listens, and what it is told about itself."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import eventually, short_directory

from rempart.kernel.errors import BadInput
from rempart.sdk import Workload
from rempart.sdk.service import _JsonLines, listen
from rempart.sdk.workload import Address


def test_a_unix_socket_is_for_its_group_and_nobody_else() -> None:
    with short_directory() as directory:
        path = directory / "app.sock"
        before = os.umask(0)
        try:
            with listen(Address(path=str(path))):
                assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with listen(Address(path=str(path))):  # a stale one is replaced
                assert path.is_socket()
        finally:
            os.umask(before)


def test_a_file_in_the_sockets_place_is_left_alone() -> None:
    with short_directory() as directory:
        path = directory / "app.sock"
        path.write_text("precious")
        with pytest.raises(BadInput) as refused:
            listen(Address(path=str(path)))
        assert refused.value.code == "bad_address"
        assert path.read_text() == "precious"


def _has_ipv6() -> bool:
    known = Path("/proc/net/if_inet6")
    return known.exists() and "00000000000000000000000000000001 " in known.read_text("ascii")


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
def test_an_address_of_ipv6() -> None:
    with listen(Address(host="::1", port=0)) as listening, socket.create_connection(listening.getsockname()[:2]):
        assert listening.family == socket.AF_INET6


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(BadInput):
        listen(Address(host="127.0.0.1", port=taken.getsockname()[1]))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/a.sock", Address(path="/run/a.sock")),
        ("unix:///run/a.sock", Address(path="/run/a.sock")),
        ("http+unix://%2Frun%2Fa.sock", Address(path="/run/a.sock")),
        ("http+unix://%2Frun%2Fa.sock/", Address(path="/run/a.sock")),
        ("127.0.0.1:80", Address(host="127.0.0.1", port=80)),
        ("http://127.0.0.1:8080", Address(host="127.0.0.1", port=8080)),
        ("http://[::1]:8080", Address(host="::1", port=8080)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    "text", ["", "unix:", "unix:/", "http+unix://x", "host", "host:x", "host:99999", "https://a:1", "[::1"]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(BadInput):
        Address.parse(text)


def test_what_a_program_is_told() -> None:
    me = Workload.from_environment(
        {
            "REMPART_SERVICE": "payment",
            "REMPART_TRUST_DOMAIN": "bank.example",
            "REMPART_LISTEN": "unix:/run/p.sock",
            "REMPART_WALLET_URL": "http+unix://%2Frun%2Fw.sock",
            "REMPART_DEPOSIT_AGENT_URL": "http://127.0.0.1:1",
            "REMPART_DATA": "/data",
        }
    )
    assert str(me.spiffe_id) == "spiffe://bank.example/payment"
    assert me.way_to("wallet") == Address(path="/run/w.sock")
    assert me.way_to("deposit-agent").port == 1
    assert me.sibling("wallet") == "spiffe://bank.example/wallet"
    assert me.data_dir == Path("/data")
    assert me.events is None
    with pytest.raises(BadInput) as refused:
        me.way_to("users")
    assert refused.value.code == "not_in_calls"
    with pytest.raises(BadInput) as unprotected:
        Workload.from_environment({"PATH": "/bin"})
    assert unprotected.value.code == "not_protected"


def test_log_lines_are_json() -> None:
    try:
        raise ValueError("x\ny")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "said %s", ("é\n",), sys.exc_info())
    line = _JsonLines().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "said é\n"
    assert "ValueError" in json.loads(line)["exception"]


PROGRAM = """
import asyncio, sys
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from rempart.sdk import Protect, serve

async def slow(request):
    print("asked", flush=True)
    await asyncio.sleep(0.3)
    return PlainTextResponse("done")

class Nobody:
    async def verify(self, token):
        raise AssertionError

serve(Protect(Starlette(routes=[Route("/slow", slow)]), verifier=Nobody()))
"""


def test_a_service_finishes_what_is_in_flight_when_told_to_stop() -> None:
    with short_directory() as directory:
        path = directory / "app.sock"
        env = {
            **os.environ,
            "REMPART_SERVICE": "x",
            "REMPART_TRUST_DOMAIN": "bank.example",
            "REMPART_LISTEN": f"unix:{path}",
        }
        child = subprocess.Popen([sys.executable, "-c", PROGRAM], env=env, stdout=subprocess.PIPE)
        try:
            eventually(path.is_socket, within=20)
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(10)
                client.connect(str(path))
                client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\nx-spiffe-id: spiffe://bank.example/y\r\n\r\n")
                assert child.stdout is not None
                assert child.stdout.readline() == b"asked\n"
                child.send_signal(signal.SIGTERM)
                answer = b""
                while b"done" not in answer:
                    got = client.recv(4096)
                    assert got, answer
                    answer += got
                assert answer.startswith(b"HTTP/1.1 200")
            assert child.wait(5) in (0, -signal.SIGTERM)
        finally:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


def test_a_program_that_is_not_protected_says_how_to_start_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from rempart.sdk import serve; serve(None)"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "rempart up" in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_sdk_is_light() -> None:
    heavy = (
        "[m for m in ('httpx', 'uvicorn', 'starlette', 'joserfc', 'cryptography', 'grpclib', 'h2') if m in sys.modules]"
    )
    code = f"import sys, rempart.sdk; from rempart.sdk import caller, requires, Body; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_public_face_is_there() -> None:
    import rempart.sdk

    for name in rempart.sdk.__all__:
        assert getattr(rempart.sdk, name) is not None
    with pytest.raises(AttributeError):
        _ = rempart.sdk.nothing
