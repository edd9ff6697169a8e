"""`rempart up` and `rempart down` on a real system: ready, continued, and nothing left behind."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from tests.integration.conftest import TINY, rempart, running, write_tiny
from tests.support import eventually, free_port, short_directory

from rempart.servers.keys_at_start import process_key
from rempart.servers.leftovers import marked
from rempart.servers.master_key import master_key


def instance(state: Path) -> str:
    return str(json.loads((state / "state.json").read_text())["instance"])


def left_running(state: Path) -> set[int]:
    return marked(instance(state))


def get(system, path: str, token: str = "") -> httpx.Response:
    context = ssl.create_default_context(cafile=system.ca)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.get(system.url + path, headers=headers, verify=context, timeout=10)


def test_a_person_reaches_the_service_and_nobody_else_does(tiny):
    assert get(tiny, "/hello").status_code == 401
    answer = get(tiny, "/hello", tiny.token("user"))
    assert answer.status_code == 200
    headers = {name.lower(): value for name, value in answer.json()["headers"].items()}
    assert headers["x-rempart-subject"] == tiny.account("user")["user_id"]
    assert headers["x-spiffe-id"] == "spiffe://tiny.example/rempart/gateway"


def test_status_has_the_promised_shape(tiny):
    status = tiny.now()
    assert status["ready"] is True
    assert status["profile"] == "dev"
    assert status["trust_domain"] == "tiny.example"
    assert status["issuer"] == status["gateway"]["url"] + "/auth"
    assert Path(status["gateway"]["ca"]).is_file()
    assert status["workload_api"] == f"unix://{tiny.state}/run/workload.sock"
    hello = next(one for one in status["services"] if one["name"] == "hello")
    assert hello["spiffe_id"] == "spiffe://tiny.example/hello"
    assert hello["mtls"].startswith("https://127.0.0.1:")
    assert [Path(f"/proc/{pid}").exists() for pid in hello["pids"]] == [True]
    assert {"name", "pid", "ready", "restarts"} <= set(status["processes"][0])


def test_demo_accounts_are_private_and_cover_every_role(tiny):
    file = Path(tiny.status["demo_accounts"])
    assert file.stat().st_mode & 0o777 == 0o600
    roles = sorted(one["role"] for one in json.loads(file.read_text()))
    assert roles == ["admin", "audit", "devops", "finance", "user", "user"]


def test_a_command_becomes_the_client_it_is_run_as(tiny):
    script = (
        "import os,urllib.parse,httpx;"
        "path=urllib.parse.unquote(os.environ['REMPART_HELLO_URL'].removeprefix('http+unix://'));"
        "client=httpx.Client(transport=httpx.HTTPTransport(uds=path));"
        "print(client.get('http://hello/hello').text)"
    )
    done = tiny.run("run", "agent", "--", sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    headers = {name.lower(): value for name, value in json.loads(done.stdout)["headers"].items()}
    assert headers["x-spiffe-id"] == "spiffe://tiny.example/agent"


def test_only_declared_clients_can_be_run(tiny):
    done = tiny.run("run", "hello", "--", "true")
    assert done.returncode == 1
    assert "no_client" in done.stderr


def test_the_operators_socket_refuses_supervised_processes(tiny):
    script = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(tiny.state / 'run' / 'control.sock')!r});"
        'print(s.send(b\'{"op": "down"}\\n\') and s.recv(999))'
    )
    done = tiny.run("run", "agent", "--", sys.executable, "-c", script)
    assert "not_operator" in done.stdout or "Error" in done.stderr
    assert tiny.now()["ready"]


def test_nobody_but_identity_may_ask_who_is_who(tiny):
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(tiny.state / "run" / "supervisor.sock"))
        asking.sendall(b'{"who": 1}\n')
        assert json.loads(asking.recv(4096))["code"] == "not_identity"


def test_second_start_continues_with_the_same_identities_and_leaves_no_process():
    with short_directory() as directory:
        app, state = write_tiny(directory / "app"), directory / "s"
        kept = {}
        for turn in range(2):
            with running(app, state=state) as system:
                assert get(system, "/hello", system.token("user")).status_code == 200
                now = {
                    "accounts": Path(system.status["demo_accounts"]).read_text(),
                    "ca": Path(system.ca).read_text(),
                    "bundle": (state / "trust" / "bundle.pem").read_text(),
                    "services": [(one["name"], one["mtls"]) for one in system.status["services"]],
                    "url": system.url,
                }
                assert turn == 0 or now == kept
                kept = now
                assert left_running(state)
            assert left_running(state) == set()


def in_foreground(app: Path, state: Path) -> subprocess.Popen[str]:
    program = str(Path(sys.prefix) / "bin" / "rempart")
    command = [program, "up", str(app), "--state", str(state), "--listen", "127.0.0.1:0"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_foreground_ends_with_ctrl_c_and_leaves_nothing():
    with short_directory() as directory:
        app, state = write_tiny(directory / "app"), directory / "s"
        up = in_foreground(app, state)
        assert up.stderr is not None
        seen = ""
        while "Ctrl-C" not in seen:
            line = up.stderr.readline()
            assert line, seen
            seen += line
        assert "ready in" in seen
        up.send_signal(signal.SIGINT)
        rest = up.stderr.read()
        assert up.wait(20) == 0, rest
        up.stderr.close()
        assert left_running(state) == set()


def test_the_supervisor_has_loaded_what_it_needs_and_no_more(tiny):
    """It runs for months and as root: neither what parsed its arguments nor anything that deals with keys. (OpenSSL's
    hashes come with the first program that it is asked to hash.)"""
    maps = Path(f"/proc/{tiny.now()['supervisor']}/maps").read_text()
    assert "msgspec" in maps
    for other in ("pydantic", "cryptography", "libssl"):
        assert other not in maps


def memory_of(pid: int) -> bytes:
    """All that a process can write (proc_pid_mem(5))."""
    content = b""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            start, end = (int(bound, 16) for bound in span.split("-"))
            if rights.startswith("rw"):
                memory.seek(start)
                content += memory.read(end - start)
    return content


def test_the_master_key_is_in_no_process(tiny):
    """Who reads the supervisor's memory has the keys of its processes, but not what all keys come from."""
    master = master_key(tiny.state, "dev")
    status = tiny.now()
    pids = {one["name"]: one["pid"] for one in status["processes"]} | {"supervisor": status["supervisor"]}
    for name in ("supervisor", "identity", "people", "sequencer"):
        try:
            memory = memory_of(pids[name])
        except PermissionError:
            pytest.skip("this host lets nobody but root read a process' memory (ptrace_scope)")
        of_identity = process_key(master, "identity")
        assert (of_identity in memory or of_identity.hex().encode() in memory) == (name in ("supervisor", "identity"))
        for form in (master, master.hex().encode(), base64.b64encode(master)):
            assert form not in memory


def test_nothing_is_imported_from_where_somebody_happens_to_be():
    with short_directory() as directory:
        for name in ("asyncio", "msgspec", "rempart"):
            (directory / f"{name}.py").write_text("raise SystemExit('a stranger ran')")
        done = rempart("up", "no-such-application", state=directory / "s", cwd=directory)
    assert done.returncode == 2
    assert "a stranger" not in done.stderr
    assert "no-such-application" in done.stderr


def test_when_the_face_is_killed_the_supervisor_stops_everything():
    with short_directory() as directory:
        app, state = write_tiny(directory / "app"), directory / "s"
        with in_foreground(app, state) as up:
            assert up.stderr is not None
            while "Ctrl-C" not in (line := up.stderr.readline()):
                assert line
            up.kill()
        eventually(lambda: left_running(state) == set(), within=15)


def test_when_the_state_directory_is_deleted_everything_stops_by_itself():
    with short_directory() as directory:
        app, state = write_tiny(directory / "app"), directory / "s"
        with in_foreground(app, state) as up:
            assert up.stderr is not None
            while "Ctrl-C" not in (line := up.stderr.readline()):
                assert line
            ours = instance(state)
            while state.exists():  # what runs takes files away meanwhile, and makes some
                shutil.rmtree(state, ignore_errors=True)
            rest = up.stderr.read()
            assert up.wait(20) == 3, rest
        assert "state_gone" in rest
        assert marked(ours) == set()


def test_two_starts_on_one_state_directory_are_refused(tiny):
    with short_directory() as directory:
        done = rempart("up", str(write_tiny(directory)), state=tiny.state)
    assert done.returncode == 3
    assert "already_up" in done.stderr
    assert str(tiny.now()["supervisor"]) in done.stderr


def test_a_taken_port_is_named_with_a_remedy():
    with short_directory() as directory, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = rempart("up", str(write_tiny(directory / "a")), "--listen", f"127.0.0.1:{port}", state=directory / "s")
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--listen" in done.stderr


def test_a_service_that_cannot_start_shows_its_last_words():
    with short_directory() as directory:
        app = write_tiny(directory / "app")
        (app / "hello.py").write_text("raise SystemExit('the database is on fire')")
        state = directory / "s"
        done = rempart("up", str(app), "--detach", "--listen", "127.0.0.1:0", state=state)
        assert done.returncode == 3
        assert "hello did not start" in done.stderr
        assert "the database is on fire" in done.stderr
        assert left_running(state) == set()


def test_a_missing_program_is_told():
    with short_directory() as directory:
        app = write_tiny(directory / "app", TINY.replace('"python", "hello.py"', '"no-such-program"'))
        done = rempart("up", str(app), "--detach", "--listen", "127.0.0.1:0", state=directory / "s")
    assert done.returncode == 3
    assert "no-such-program" in done.stderr


def test_a_service_on_a_tcp_port_works_and_its_risk_is_named():
    port = free_port()
    with short_directory() as directory:
        app = write_tiny(directory / "app", TINY.replace('socket = "app.sock"', f"port = {port}"))
        source = (app / "hello.py").read_text()
        source = source.replace("socketserver.UnixStreamServer", "socketserver.TCPServer").replace(
            'Server(os.environ["REMPART_LISTEN"].removeprefix("unix:"), Handler)',
            'Server(("127.0.0.1", int(os.environ["REMPART_LISTEN"].rpartition(":")[2])), Handler)',
        )
        (app / "hello.py").write_text(source)
        with running(app) as system:
            assert get(system, "/hello", system.token("user")).status_code == 200
            assert any(risk["service"] == "hello" and "TCP" in risk["risk"] for risk in system.status["risks"])


def test_production_wants_a_master_key_of_its_own_and_makes_no_demo_accounts():
    with short_directory() as directory:
        app, key = write_tiny(directory / "app"), directory / "key"
        options = ("up", str(app), "--detach", "--profile", "production", "--listen", "127.0.0.1:0")
        done = rempart(*options, state=directory / "s")
        assert (done.returncode, "master_key_missing" in done.stderr) == (2, True)
        key.write_text("ab" * 32)
        key.chmod(0o644)
        done = rempart(*options, state=directory / "s", env={"REMPART_MASTER_KEY_FILE": str(key)})
        assert (done.returncode, "chmod" in done.stderr) == (2, True)
        key.chmod(0o400)
        done = rempart(*options, "--json", state=directory / "s", env={"REMPART_MASTER_KEY_FILE": str(key)})
        assert done.returncode == 0, done.stderr
        try:
            assert json.loads(done.stdout)["demo_accounts"] is None
            assert not (directory / "s" / "secrets" / "master.key").exists()
        finally:
            rempart("down", state=directory / "s")


def test_after_kill_9_of_the_supervisor_the_next_start_recovers_alone():
    with short_directory() as directory:
        app, state = write_tiny(directory / "app"), directory / "s"
        with running(app, state=state) as system:
            first = left_running(state)
            os.kill(system.status["supervisor"], signal.SIGKILL)
            eventually(lambda: not (first & left_running(state)), within=5, why="children outlived their supervisor")
            assert rempart("status", state=state).returncode == 3
        with running(app, state=state) as system:
            assert get(system, "/hello", system.token("user")).status_code == 200


@pytest.mark.parametrize("verb", ["down", "status", "demo"])
def test_verbs_say_when_nothing_runs(verb, tmp_path):
    done = rempart(verb, "--json", state=tmp_path / "none")
    assert done.returncode == 3
    assert json.loads(done.stderr)["code"] == "not_running"
