"""Roots on disk: killed after any write, the next start goes on from a whole state."""

from __future__ import annotations

import asyncio

import pytest

from rempart.crypto.x509 import pem_to_ders
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Conflict, Integrity
from rempart.kernel.event import EventType
from rempart.servers import root_store
from rempart.servers.keys_at_start import ensure_roots
from rempart.servers.root_keeper import SCHEDULED_OVERLAP, RootKeeper
from rempart.servers.root_store import RootStore
from rempart.workloads import authority

DOMAIN = "bank.example"
KEY = b"k" * 32
TTL = {"spiffe": 100.0, "web": 100.0}


class Killed(BaseException):
    pass


class Machine:
    """A state directory and whoever runs on it; `told` are the recorded events."""

    upstream = None

    def __init__(self, path):
        for name in ("secrets", "tls", "trust"):
            (path / name).mkdir()
        self.path, self.told = path, []
        self.clock = ManualClock()
        self.start()

    def start(self):
        store = RootStore(self.path, self.upstream)
        ensure_roots(store, DOMAIN, KEY)
        self.keeper = RootKeeper(store, self.make, TTL, self.tell, self.clock, margin=10)

    async def make(self, kind):
        return authority.new_root(kind, DOMAIN, KEY)

    async def tell(self, kind, reason, severity, details):
        self.told.append((kind, details))

    def rotate(self, kind="spiffe", operator="uid:7"):
        return asyncio.run(self.keeper.rotate(kind, overlap=20, operator=operator))

    def publish(self, kind="spiffe"):
        """As identity does: asks, shows all, and says so."""
        shown = asyncio.run(self.keeper.told(kind, []))["roots"]
        prints = [authority.x509.Certificate.parse(der).fingerprint for der in pem_to_ders(shown)]
        return asyncio.run(self.keeper.told(kind, prints))

    def step(self, seconds=0.0, kind="spiffe"):
        self.clock.advance(seconds)
        asyncio.run(self.keeper.step(kind))
        return asyncio.run(self.keeper.told(kind, []))

    def public(self):
        return pem_to_ders((self.path / "trust" / "bundle.pem").read_text())

    def keys(self):
        return sorted(file.name for file in (self.path / "secrets").glob("spiffe-root*.sealed"))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_prepare_activate_retire(machine):
    (old,) = machine.public()
    assert machine.rotate()["phase"] == "prepared"
    first, new = machine.public()
    assert first == old
    assert machine.step(1000)["phase"] == "prepared"  # nobody published it yet
    machine.publish()
    assert machine.step(19)["phase"] == "prepared"
    told = machine.step(1)
    assert told["phase"] == "retiring"
    assert pem_to_ders(machine.keeper.current("spiffe").certificate) == [new]
    assert machine.public() == [old, new]
    assert machine.step(109)["phase"] == "retiring"
    assert machine.step(1)["phase"] == "steady"
    assert machine.public() == [new]
    assert len(machine.keys()) == 1
    kinds = {kind for kind, _ in machine.told}
    assert kinds == {EventType.AUTHORITY_ROTATED}
    assert [details["phase"] for _, details in machine.told] == ["prepared", "retiring", "steady"]
    assert machine.told[0][1]["operator"] == "uid:7"
    assert machine.keeper.current("web").sealed == "web-root.sealed"


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("after", [False, True], ids=["before-the-write", "after-it"])
def test_killed_at_any_write_it_goes_on(machine, monkeypatch, at, after):
    """Every write of a whole rotation: sealed key, state and public file of each step."""
    writes = []
    real = root_store.write_file

    def deadly(path, content, mode=0o600):
        writes.append(path.name)
        if len(writes) == at + 1 and not after:
            raise Killed
        real(path, content, mode)
        if len(writes) == at + 1:
            raise Killed

    def whole():
        told = asyncio.run(machine.keeper.told("spiffe", []))
        if told["phase"] == "steady" and len(machine.told) == 0:
            machine.rotate()
        if asyncio.run(machine.keeper.told("spiffe", []))["phase"] != "steady":
            machine.publish()
            machine.step(30)
            machine.step(120)

    monkeypatch.setattr(root_store, "write_file", deadly)
    try:
        whole()
    except Killed:
        monkeypatch.setattr(root_store, "write_file", real)
        machine.start()
        trusted = asyncio.run(machine.keeper.told("spiffe", []))
        assert trusted["signing"] in [authority.x509.Certificate.parse(der).fingerprint for der in machine.public()]
        assert pem_to_ders(trusted["roots"]) == machine.public()
        asyncio.run(machine.keeper.signer("spiffe"))
        whole()
    else:
        pytest.fail(f"a rotation has only {len(writes)} writes")
    assert asyncio.run(machine.keeper.told("spiffe", []))["phase"] == "steady"
    assert len(machine.public()) == len(machine.keys()) == 1


def test_what_makes_no_sense_is_refused(machine):
    with pytest.raises(BadInput):
        machine.rotate("jwt")
    with pytest.raises(BadInput):
        asyncio.run(machine.keeper.rotate("web", overlap=0.1, operator=None))
    machine.rotate()
    with pytest.raises(Conflict):
        machine.rotate()
    assert len(machine.keys()) == 2


def test_a_damaged_state_or_a_lost_key_stops_the_start(machine):
    machine.rotate()
    state = machine.path / "secrets" / "spiffe-roots.json"
    good = state.read_bytes()
    state.write_bytes(good[:-5])
    with pytest.raises(Integrity):
        machine.start()
    state.write_bytes(good)
    (machine.path / "secrets" / machine.keys()[0]).unlink()
    with pytest.raises(Integrity):
        machine.start()


def test_at_half_of_its_life_a_root_is_replaced_by_itself(machine):
    certificate = machine.keeper.current("spiffe")
    machine.clock.advance((certificate.not_before + certificate.not_after) / 2 - machine.clock.now() - 10)
    assert machine.step()["phase"] == "steady"
    assert machine.step(20)["phase"] == "prepared"
    assert machine.publish()["activate_at"] == machine.clock.now() + SCHEDULED_OVERLAP


def compromise(machine, kind="spiffe", grace=5):
    async def begin():
        return await anext(machine.keeper.replace_compromised(kind, grace=grace, operator="uid:7"))

    return asyncio.run(begin())


def test_a_compromised_root_goes_as_soon_as_its_successor_signs(machine):
    (old,) = machine.public()
    assert compromise(machine)["phase"] == "prepared"
    machine.publish()
    assert machine.step(4)["phase"] == "prepared"
    assert machine.step(1)["phase"] == "retiring"
    assert machine.step(4)["phase"] == "retiring"
    assert machine.step(1)["phase"] == "steady"
    assert old not in machine.public()
    assert machine.told[0][0] == EventType.AUTHORITY_ROTATED


def test_compromised_amid_a_planned_rotation_the_prepared_root_takes_over_sooner(machine):
    (old,) = machine.public()
    machine.rotate()
    machine.publish()
    _, new = machine.public()
    assert compromise(machine)["phase"] == "prepared"
    assert machine.step(5)["phase"] == "retiring"
    assert machine.step(5)["phase"] == "steady"
    assert machine.public() == [new]
    assert old != new


def test_compromised_while_another_one_retires_both_go(machine):
    (first,) = machine.public()
    machine.rotate()
    machine.publish()
    machine.step(20)
    second = pem_to_ders(machine.keeper.current("spiffe").certificate)[0]
    compromise(machine)
    assert first not in machine.public()
    machine.publish()
    machine.step(5)
    machine.step(5)
    assert len(machine.public()) == 1
    assert second not in machine.public()


@pytest.mark.parametrize("grace", [0, 1.9, 1e6, float("nan")])
def test_a_grace_that_makes_no_sense_is_refused(machine, grace):
    with pytest.raises(BadInput):
        compromise(machine, grace=grace)
