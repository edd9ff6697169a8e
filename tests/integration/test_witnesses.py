"""Three `rempart witness` processes and a running system: proofs that two of them vouch for, checked by strangers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import TINY, Running, rempart, running, write_tiny
from tests.support import eventually, short_directory

from rempart.servers.witness import open_cosigner


class WitnessProcess:
    def __init__(self, directory: Path, name: str, log: Path, port: int = 0) -> None:
        command = [str(Path(sys.prefix) / "bin" / "rempart"), "witness", str(directory), "--log", str(log)]
        command += ["--name", name, "--listen", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        self.key = self.process.stdout.readline().strip()

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(by)
        assert self.process.wait(10) == (0 if by is signal.SIGTERM else -by)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="module")
def system() -> Iterator[tuple[Running, list[WitnessProcess], Path]]:
    """The log's key is made by the first start, so the witnesses join at the second."""
    with short_directory("rw") as directory:
        app, state = write_tiny(directory / "app"), directory / "s"
        with running(app, state=state):
            pass
        log = directory / "log.vkey"
        log.write_text((state / "data" / "sequencer" / "log.vkey").read_text())
        witnesses = [WitnessProcess(directory / f"w{n}", f"w{n}.example", log) for n in range(3)]
        try:
            named = "".join(f'\n[[audit.witness]]\nurl = "{w.url}"\nkey = "{w.key}"\n' for w in witnesses)
            (app / "rempart.toml").write_text(TINY + "\n[audit]\nquorum = 2\n" + named)
            with running(app, state=state) as started:
                yield started, witnesses, directory
        finally:
            for witness in witnesses:
                if witness.process.poll() is None:
                    witness.stop()


def _proof(system: Running, directory: Path) -> Path:
    """Of an event that is witnessed."""
    found = system.run("audit", "search", "--limit", "50", "--json")
    oldest = json.loads(found.stdout)["events"][-1]["id"]
    path = directory / "proof.json"

    def proved() -> bool:
        done = system.run("audit", "prove", oldest, "--witnessed")
        path.write_text(done.stdout)
        return done.returncode == 0

    eventually(proved, within=20, every=0.3)
    return path


def test_a_stranger_checks_that_two_witnesses_vouch(system: tuple[Running, list[WitnessProcess], Path]) -> None:
    running_now, witnesses, directory = system
    proof = _proof(running_now, directory)
    keys = []
    for n, witness in enumerate(witnesses):
        (directory / f"w{n}.key").write_text(witness.key)
        keys += ["--witness", str(directory / f"w{n}.key")]
    log = ["--key", str(directory / "log.vkey")]
    assert (
        rempart("audit", "verify", str(proof), *log, *keys, "--quorum", "2", state=directory / "none").returncode == 0
    )
    (directory / "x.key").write_text(open_cosigner(directory / "x", "x.example").verifier_key)
    other = ["--witness", str(directory / "x.key")]
    refused = rempart("audit", "verify", str(proof), *log, *other, state=directory / "none")
    assert (refused.returncode, "0 of the 1 witnesses" in refused.stderr) == (1, True)
    told = json.loads(running_now.run("audit", "witnesses", "--json").stdout)
    assert set(told["witnesses"]) == {"w0.example", "w1.example", "w2.example"}


def test_one_witness_may_be_away_and_come_back(system: tuple[Running, list[WitnessProcess], Path]) -> None:
    running_now, witnesses, directory = system

    def told() -> dict[str, str]:
        running_now.token("user")  # something to record, so that witnesses are asked
        return dict(json.loads(running_now.run("audit", "witnesses", "--json").stdout)["witnesses"])

    port = int(witnesses[0].url.rpartition(":")[2])
    witnesses[0].stop(signal.SIGKILL)
    eventually(lambda: told()["w0.example"], within=20, every=0.3)
    size = json.loads(running_now.run("audit", "witnesses", "--json").stdout)["size"]
    running_now.token("user")
    grown = lambda: json.loads(running_now.run("audit", "witnesses", "--json").stdout)["size"] > size  # noqa: E731 - a condition
    eventually(grown, within=20, every=0.3, why="two witnesses are enough")
    witnesses[0] = WitnessProcess(directory / "w0", "w0.example", directory / "log.vkey", port)
    eventually(lambda: told()["w0.example"] == "", within=20, every=0.3)


def test_a_witness_keeps_its_key_private(system: tuple[Running, list[WitnessProcess], Path]) -> None:
    _, _, directory = system
    assert os.stat(directory / "w1" / "witness.key").st_mode & 0o777 == 0o600
    (directory / "bad.vkey").write_text("no key")
    refused = rempart("witness", str(directory / "y"), "--log", str(directory / "bad.vkey"), state=directory / "none")
    assert (refused.returncode, "bad_verifier_key" in refused.stderr) == (2, True)
