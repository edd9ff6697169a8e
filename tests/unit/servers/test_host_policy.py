"""What the PDP of another host follows: the policy as the server tells it, and people's word passed on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support import short_directory

from rempart.crypto.x509 import Certificate
from rempart.kernel.errors import BadInput, Unavailable
from rempart.policy.bundle import dump, make, read_directory
from rempart.policy.model import PolicyFile
from rempart.servers.host_policy import EpochRelay, PolicyCopy, write_policy
from rempart.workloads.model import X509Svid


class Server:
    """Answers what it is told to; None: it is away."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, bytes]] = []

    def use(self, roots: Sequence[Certificate], svid: X509Svid | None) -> None: ...

    async def ask(self, method: str, path: str, body: bytes = b"", *, within_s: float) -> bytes:
        self.asked.append((path, body))
        if self.answer is None:
            raise Unavailable("server_away", "it is away")
        return self.answer

    async def close(self) -> None: ...


def policy(rule: str, **data: Any) -> bytes:
    text = f"package authz\n\ndecision := {{{rule}}}\n"
    return dump(make([PolicyFile("app/authz.rego", text)], data, "data.authz.decision"))


ALLOWING, DENYING = policy('"allow": true'), policy('"allow": false', limits={"day": 5})


def test_a_policy_is_put_in_place_as_it_was_told(tmp_path: Path) -> None:
    current = tmp_path / "current"
    for told in (ALLOWING, DENYING):
        write_policy(current, told)
        assert dump(read_directory(current)) == told
    assert [path.name for path in tmp_path.iterdir() if path.name != current.name] == [current.resolve().name]


def test_the_same_policy_again_is_not_taken_away_for_a_moment(tmp_path: Path) -> None:
    current = tmp_path / "current"
    write_policy(current, ALLOWING)
    before = {path: path.stat().st_ino for path in current.resolve().rglob("*")}
    write_policy(current, ALLOWING)
    assert {path: path.stat().st_ino for path in current.resolve().rglob("*")} == before


def test_what_was_cut_off_before_is_no_policy(tmp_path: Path) -> None:
    current, half = tmp_path / "current", tmp_path / ".v.new"
    half.mkdir()
    (half / "other.rego").write_text("package authz\n\ndecision := {")
    write_policy(current, ALLOWING)
    assert dump(read_directory(current)) == ALLOWING


@pytest.mark.parametrize("name", ["../../out.rego", "/tmp/out.rego", "run.sh", "a/../../out.rego"])
def test_a_policy_stays_in_its_directory(tmp_path: Path, name: str) -> None:
    current = tmp_path / "policy" / "current"
    current.parent.mkdir()
    write_policy(current, ALLOWING)
    told = dump(make([PolicyFile(name, "package a\n")], {}, "data.authz.decision"))
    with pytest.raises(BadInput):
        write_policy(current, told)
    assert dump(read_directory(current)) == ALLOWING
    assert not list(tmp_path.rglob("out.rego"))


def test_it_asks_for_another_policy_than_the_one_it_has(tmp_path: Path) -> None:
    server = Server(ALLOWING)
    copy = PolicyCopy(tmp_path / "current", server)
    asyncio.run(copy.ask())
    server.answer = b""
    asyncio.run(copy.ask())
    first, second = (path for path, _ in server.asked)
    assert first == "/v1/policy?seen="
    assert second.removeprefix("/v1/policy?seen=") == (tmp_path / "current").resolve().name.removeprefix("v-")
    assert dump(read_directory(tmp_path / "current")) == ALLOWING


async def follow(server: Server, position: bytes, lines: int) -> list[bytes]:
    """What a follower hears before it hangs up; returns once nothing of the relay is left for it."""
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "epochs.sock"))
        listening.listen()
        relaying = asyncio.create_task(EpochRelay(server).serve(listening))
        others = len(asyncio.all_tasks())
        reader, writer = await asyncio.open_unix_connection(str(directory / "epochs.sock"))
        writer.write(position + b"\n")
        heard = [await reader.readline() for _ in range(lines)]
        while not server.asked:
            await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(30):
            while len(asyncio.all_tasks()) > others:
                await asyncio.sleep(0.01)
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)
        return heard


def test_people_are_heard_through_the_relay() -> None:
    server = Server(b'{"run":"run_1","seq":7,"epochs":[["usr_1",2,1.0]]}\n')
    assert asyncio.run(follow(server, b'{"run":"","seq":0}', 2)) == [server.answer] * 2
    assert json.loads(server.asked[0][1]) == {"run": "", "seq": 0}
    assert json.loads(server.asked[1][1]) == {"run": "run_1", "seq": 7}


def test_who_hung_up_while_the_server_is_away_is_forgotten() -> None:
    """The PDP comes again every few seconds of silence: each time left a task and a descriptor behind."""
    assert asyncio.run(follow(Server(), b'{"run":"","seq":0}', 0)) == []
