"""What a server signs for an agent, remembers of it, and lets it tell; what an agent believes of a server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from tests.unit.workloads.doubles import DOMAIN, MemoryAgents, MemoryRecorder, MemoryStore, SigningSupervisor

from rempart.crypto.svid import verify_svid
from rempart.crypto.x509 import Certificate, EcKey, pem_to_ders
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Denied, NotFound, RempartError, Unauthenticated, Unavailable
from rempart.kernel.event import Event
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.agents import messages
from rempart.workloads.agents.knowledge import Knowledge
from rempart.workloads.agents.messages import MAX_BATCH, Signed, SignRequest, Synced, Told, WireEntry
from rempart.workloads.agents.model import GRACE, Agent
from rempart.workloads.agents.remote import RemoteX509
from rempart.workloads.agents.roster import Roster, agent_refusals
from rempart.workloads.agents.signing import AgentSigning
from rempart.workloads.agents.telling import MAX_EVENTS, Telling
from rempart.workloads.bundle_state import BundleState
from rempart.workloads.issuing import IssuingAuthority
from rempart.workloads.jwt_authority import JwtAuthority
from rempart.workloads.local_x509 import LocalX509
from rempart.workloads.model import Bundle, Entry, Selector
from rempart.workloads.registration import Registration
from rempart.workloads.workload_api import spiffe_bundle

ONE = f"spiffe://{DOMAIN}/rempart/agent/join_token/one"
TWO = f"spiffe://{DOMAIN}/rempart/agent/join_token/two"


def entry(name: str, parent: str, **more: Any) -> Entry:
    return Entry(
        **{
            "id": name,
            "spiffe_id": SpiffeId.parse(f"spiffe://{DOMAIN}/{name}"),
            "selectors": frozenset({Selector.parse("unix:uid:1")}),
            "parent_id": parent,
            **more,
        }
    )


class Server:
    def __init__(self, path: Path, *entries: Entry) -> None:
        self.clock, self.recorder = ManualClock(), MemoryRecorder()
        supervisor = SigningSupervisor(self.clock)
        self.roots = [Certificate.parse(der) for der in pem_to_ders(supervisor.roots["spiffe"][0])]
        self.authority = IssuingAuthority("spiffe", supervisor, self.roots, self.recorder, self.clock)
        state = BundleState(path / "state", b"k" * 32)
        self.jwt = JwtAuthority(DOMAIN, state, self.roots, self.clock, key_ttl=1000)
        self.x509 = LocalX509(self.authority, state, self.clock, ttl=50)
        store = MemoryStore()
        store.rows = {one.id: one for one in entries}
        registration = Registration(DOMAIN, [], store, self.recorder, self.clock, lambda _: None)
        refusals = agent_refusals(self.recorder, self.clock)
        self.signing = AgentSigning(registration, self.x509, self.jwt, self.recorder, refusals, self.clock)
        self.registration = registration

    async def start(self) -> None:
        await self.jwt.advance()
        await self.authority.rotate()

    async def sign(self, agent: str, *asked: tuple[str, bytes]) -> list[Signed]:
        return await self.signing.x509(agent, [SignRequest(name, csr) for name, csr in asked])


def csr(*names: str, key: Any = None, digest: Any = None) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = library.CertificateSigningRequestBuilder().subject_name(
        library.Name([library.NameAttribute(NameOID.COMMON_NAME, "x")])
    )
    if names:
        general: list[library.GeneralName] = [
            library.UniformResourceIdentifier(name) if ":" in name else library.DNSName(name) for name in names
        ]
        builder = builder.add_extension(library.SubjectAlternativeName(general), critical=False)
    return builder.sign(key, digest or hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_an_agent_is_signed_its_own_entries_and_it_is_recorded(tmp_path: Path) -> None:
    server = Server(tmp_path, entry("a", ONE, dns_names=("a.internal",)), entry("b", TWO), entry("c", ""))

    async def scenario() -> None:
        await server.start()
        key = EcKey.generate()
        own, foreign, here, none = await server.sign(
            ONE, ("a", key.request_der()), ("b", csr()), ("c", csr()), ("d", csr())
        )
        roots = [root.der for root in server.roots]
        found = verify_svid(own.chain, roots, trust_domain=DOMAIN, now=server.clock.now())
        assert str(found) == f"spiffe://{DOMAIN}/a"
        assert {foreign.code, here.code, none.code} == {"foreign_entry"}
        assert [foreign.chain, here.chain, none.chain] == [[], [], []]
        issued = [one for one in server.recorder.events if one.type == "workloads.svid_issued"]
        assert [(one.workload, one.details["agent"]) for one in issued] == [(f"spiffe://{DOMAIN}/a", ONE)]
        assert "workloads.agent_refused" in server.recorder.types()

    asyncio.run(scenario())


def test_a_request_gets_no_more_than_its_entry_says(tmp_path: Path) -> None:
    server = Server(tmp_path, entry("a", ONE))
    mine = f"spiffe://{DOMAIN}/a"
    rsa_key = rsa.generate_private_key(65537, 2048)
    wrong = {
        csr(f"spiffe://{DOMAIN}/b"): "foreign_san",
        csr(mine, f"spiffe://{DOMAIN}/b"): "foreign_san",
        csr(mine, "other.internal"): "foreign_san",
        csr(key=rsa_key): "bad_certificate_request",
        csr(key=ec.generate_private_key(ec.SECP384R1())): "bad_certificate_request",
        csr()[:-1] + b"\x00": "bad_certificate_request",
        b"": "bad_certificate_request",
    }

    async def scenario() -> None:
        await server.start()
        answers = await server.sign(ONE, *(("a", request) for request in wrong))
        assert [one.code for one in answers] == list(wrong.values())
        (right,) = await server.sign(ONE, ("a", csr(mine)))
        assert right.chain

    asyncio.run(scenario())


def test_a_key_is_one_identitys(tmp_path: Path) -> None:
    server = Server(tmp_path, entry("a", ONE), entry("b", ONE), entry("c", TWO))
    key = ec.generate_private_key(ec.SECP256R1())

    async def scenario() -> None:
        await server.start()
        first, again, other = await server.sign(ONE, ("a", csr(key=key)), ("a", csr(key=key)), ("b", csr(key=key)))
        assert first.chain
        assert again.chain  # an answer may have been lost
        assert other.code == "key_reused"
        assert (await server.sign(TWO, ("c", csr(key=key))))[0].code == "key_reused"

    asyncio.run(scenario())


def test_an_expired_entry_and_a_full_disk_give_nothing(tmp_path: Path) -> None:
    server = Server(tmp_path, entry("a", ONE), entry("b", ONE, expires_at=ManualClock().now() - 1))

    async def scenario() -> None:
        await server.start()
        assert (await server.sign(ONE, ("b", csr())))[0].code == "foreign_entry"
        with pytest.raises(Denied):
            await server.signing.jwt(ONE, "b", ["x"])
        token = await server.signing.jwt(ONE, "a", ["x"])
        assert str(server.jwt.validate(token.token, "x")[0]) == f"spiffe://{DOMAIN}/a"
        with pytest.raises(BadInput):
            await server.sign(ONE, *[("a", b"")] * (MAX_BATCH + 1))
        server.recorder.down = True
        with pytest.raises(Unavailable):
            await server.sign(ONE, ("a", csr()))
        with pytest.raises(Unavailable):
            await server.signing.jwt(ONE, "a", ["x"])

    asyncio.run(scenario())


def test_entries_of_agents_are_nobodys_on_the_servers_host(tmp_path: Path) -> None:
    server = Server(tmp_path, entry("a", ONE), entry("c", f"spiffe://{DOMAIN}/spire/agent/x"))
    from rempart.workloads.model import Facts

    facts = Facts(1, 1, 1, frozenset({Selector.parse("unix:uid:1")}))
    assert [one.id for one in server.registration.matching(facts)] == ["c"]
    assert [one.id for one in server.registration.of_agent(ONE)] == ["a"]


# -- the roster ------------------------------------------------------------------------------------------------------


def agent(**more: Any) -> Agent:
    return Agent(**{"spiffe_id": ONE, "method": "x", "serial": "1", "expires_at": 9e9, "joined_at": 0.0, **more})


def test_an_agents_svid_is_the_one_it_was_sent_last() -> None:
    async def scenario() -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        roster = Roster(DOMAIN, MemoryAgents(), recorder, clock, lambda: None)
        await roster.admit(agent(), "10.0.0.1")
        known = await roster.verify(ONE, "1")
        await roster.renew(known, "2", 9e9)
        assert (await roster.verify(ONE, "1")).next_serial == "2"  # the answer may have been lost
        assert (await roster.verify(ONE, "2")).serial == "2"
        await roster.verify(ONE, "1")  # a question that was under way
        clock.advance(GRACE)
        for serial in ("1", "3"):
            with pytest.raises(Denied) as refusal:
                await roster.verify(ONE, serial)
            assert refusal.value.code == "agent_superseded"
        await roster.admit(agent(serial="7"), None)  # joined again: what was before is nothing
        with pytest.raises(Denied):
            await roster.verify(ONE, "2")
        assert recorder.types() == ["workloads.agent_joined", "workloads.svid_issued", "workloads.agent_joined"]

    asyncio.run(scenario())


def test_bans_outlast_joining_and_nothing_happens_unrecorded() -> None:
    async def scenario() -> None:
        told: list[str] = []
        clock, recorder = ManualClock(), MemoryRecorder()
        roster = Roster(DOMAIN, MemoryAgents(), recorder, clock, lambda: told.append("change"))
        await roster.admit(agent(), None)
        known = await roster.verify(ONE, "1")
        assert (await roster.ban("join_token/one", "uid:0")).banned
        for refused in (roster.verify(ONE, "1"), roster.admit(agent(), None), roster.renew(known, "2", 9e9)):
            with pytest.raises(Denied) as refusal:
                await refused
            assert refusal.value.code == "agent_banned"
        await roster.ban(ONE, "uid:0", banned=False)
        await roster.verify(ONE, "1")
        recorder.down = True
        for unrecorded in (roster.ban(ONE, "uid:0"), roster.evict(ONE, "uid:0"), roster.make_token("uid:0")):
            with pytest.raises(Unavailable):
                await unrecorded
        assert not (await roster.verify(ONE, "1")).banned
        recorder.down = False
        await roster.evict(ONE, "uid:0")
        with pytest.raises(NotFound):
            await roster.show(ONE)
        assert told == ["change"] * 3

    asyncio.run(scenario())


def test_an_eviction_makes_open_tokens_void() -> None:
    async def scenario() -> None:
        clock, recorder = ManualClock(), MemoryRecorder()
        roster = Roster(DOMAIN, MemoryAgents(), recorder, clock, lambda: None)
        await roster.admit(agent(), None)
        tokens = [(await roster.make_token("uid:0", name=name))[0] for name in ("one", "one", "two", "never")]
        assert (await roster.evict(ONE, "uid:0"))["tokens"] == 2
        assert await roster.evict("join_token/never", "uid:0") == {"spiffe_id": ONE[:-3] + "never", "tokens": 1}
        for void in (tokens[0], tokens[1], tokens[3]):
            with pytest.raises(Unauthenticated):
                await roster.take_token(void)
        assert (await roster.take_token(tokens[2])).spiffe_id == TWO
        recorded = len(recorder.events)
        with pytest.raises(NotFound):
            await roster.evict("join_token/never", "uid:0")
        assert len(recorder.events) == recorded

    asyncio.run(scenario())


# -- telling ---------------------------------------------------------------------------------------------------------


def told(**more: Any) -> Told:
    made: dict[str, Any] = {"id": "evt_" + "0" * 26, "type": "workloads.svid_issued", "at": 1.0, "success": True}
    return Told(**{**made, **more})


def test_what_an_agent_tells_is_marked_as_its_own() -> None:
    kept: list[Event] = []

    async def record(event: Event, source: str) -> None:
        assert source == "agent@join_token/one"
        kept.append(event)

    async def scenario() -> None:
        telling = Telling(record, ManualClock())
        await telling.keep(ONE, [told(details={"agent": TWO, "pid": 7})])
        assert (kept[0].service, kept[0].details) == ("agent", {"agent": ONE, "pid": 7})
        for wrong in (
            told(type="decision"),
            told(id="dec_1"),
            told(at=-1.0),
            told(at=float("nan")),
            told(severity="?"),
        ):
            with pytest.raises(BadInput):
                await telling.keep(ONE, [told(), wrong])
        with pytest.raises(BadInput):
            await telling.keep(ONE, [told()] * (MAX_EVENTS + 1))
        assert len(kept) == 1

    asyncio.run(scenario())


# -- the agent's side ------------------------------------------------------------------------------------------------


def synced(server: Server, *entries: WireEntry, sequence: int = 1, **more: Any) -> Synced:
    bundle = messages.encode(spiffe_bundle(Bundle(DOMAIN, tuple(server.roots), (), sequence))).decode()
    made: dict[str, Any] = {
        "version": "v",
        "entries": list(entries),
        "bundle": bundle,
        "partners": {},
        "issuer": f"spiffe://{DOMAIN}",
        "kid": "k",
        "generation": "g",
    }
    return Synced(**{**made, **more})


def test_an_entry_is_the_same_after_the_wire() -> None:
    one = entry("a", ONE, ttl=5, jwt_ttl=6, dns_names=("x",), federates_with=("p.example",), hint="h", expires_at=7.5)
    again = messages.read_answer(messages.encode(WireEntry.of(one)), WireEntry)
    assert again.entry(ONE) == one
    with pytest.raises(RempartError):
        WireEntry("a", str(one.spiffe_id), []).entry(ONE)


def test_an_agent_learns_all_or_nothing_and_no_older_bundle(tmp_path: Path) -> None:
    server, changes = Server(tmp_path), list[Any]()
    knowledge = Knowledge(DOMAIN, ManualClock(), changes.append)
    own = WireEntry.of(entry("a", ONE))
    knowledge.learn(synced(server, own, sequence=5), ONE)
    assert (knowledge.version, len(knowledge.entries()), knowledge.bundle.sequence) == ("v", 1, 5)
    ours = synced(server).bundle
    for wrong in (
        synced(server, WireEntry("b", "nonsense", ["unix:uid:1"]), version="w"),
        synced(server, own, bundle='{"keys": []}', version="w"),
        synced(server, own, bundle="{", version="w"),
        synced(server, own, partners={"partner.example": ours}, version="w"),  # our own roots as somebody else's
    ):
        with pytest.raises(RempartError):
            knowledge.learn(wrong, ONE)
    assert (knowledge.version, len(knowledge.entries()), changes) == ("v", 1, [None])
    knowledge.learn(synced(server, sequence=4, version="w"), ONE)
    assert knowledge.bundle.sequence == 5
    knowledge.forget_entries()
    with pytest.raises(Unavailable):
        _ = knowledge.synced


def test_a_change_of_entries_alone_is_told_as_that(tmp_path: Path) -> None:
    server, changes = Server(tmp_path), list[Any]()
    knowledge = Knowledge(DOMAIN, ManualClock(), changes.append)
    same, gone, changed = (WireEntry.of(entry(name, ONE)) for name in ("same", "gone", "changed"))
    knowledge.learn(synced(server, same, gone, changed, version="1"), ONE)
    longer, new = WireEntry.of(entry("changed", ONE, ttl=9)), WireEntry.of(entry("new", ONE))
    knowledge.learn(synced(server, same, longer, new, version="2"), ONE)
    knowledge.learn(synced(server, same, longer, new, version="3", generation="other"), ONE)
    assert changes[0] is None
    assert sorted((one.id, one.ttl) for one in changes[1]) == [("changed", 0), ("changed", 9), ("gone", 0), ("new", 0)]
    assert changes[2] is None


class Wire:
    """A `ServerConnection` that is a server in the same process."""

    def __init__(self, server: Server) -> None:
        self.server, self.asked, self.answer = server, [], None

    def use(self, roots: Any, svid: Any) -> None: ...

    async def close(self) -> None: ...

    async def ask(self, method: str, path: str, body: bytes = b"", *, within_s: float) -> bytes:
        self.asked.append(path)
        await asyncio.sleep(0.01)
        if self.answer is not None:
            return self.answer
        asked = messages.read(body, messages.SignRequests)
        return messages.encode(messages.SignedAll(await self.server.signing.x509(ONE, asked.requests)))


def remote(server: Server) -> tuple[RemoteX509, Wire]:
    wire = Wire(server)
    knowledge = Knowledge(DOMAIN, server.clock, lambda changed: None)
    knowledge.learn(synced(server), ONE)
    return RemoteX509(wire, knowledge, server.clock), wire


def test_what_is_asked_for_together_goes_together(tmp_path: Path) -> None:
    entries = [entry(f"e{number}", ONE) for number in range(30)]
    server = Server(tmp_path, *entries)

    async def scenario() -> None:
        await server.start()
        signer, wire = remote(server)
        chains = await asyncio.gather(*(signer.sign(one, EcKey.generate()) for one in entries))
        assert len({chain[0].serial for chain in chains}) == 30
        assert len(wire.asked) == 1

    asyncio.run(scenario())


def test_a_server_that_answers_something_else_is_as_one_that_is_away(tmp_path: Path) -> None:
    mine, other = entry("a", ONE), entry("b", ONE)
    server = Server(tmp_path, mine, other)

    async def scenario() -> None:
        await server.start()
        signer, wire = remote(server)
        chain = await signer.sign(other, EcKey.generate())
        foreign = Signed("a", [one.der for one in chain])
        for answer in (
            messages.encode(messages.SignedAll([foreign])),
            messages.encode(messages.SignedAll([])),
            messages.encode(messages.SignedAll([Signed("a", [b"x"])])),
            messages.encode(messages.SignedAll([Signed("a", code="foreign_entry", reason="no")])),
            b"[]",
            b"",
        ):
            wire.answer = answer
            with pytest.raises((Unavailable, RempartError)):
                await signer.sign(mine, EcKey.generate())

    asyncio.run(scenario())


def test_signing_for_an_agent_is_quick(tmp_path: Path) -> None:
    """The issue asks for 2,000 a second on a core that is ours; a shared one gives at least a tenth of that."""
    entries = [entry(f"e{number}", ONE) for number in range(100)]
    server = Server(tmp_path, *entries)
    requests = [(one.id, csr()) for one in entries]

    async def scenario() -> float:
        await server.start()
        begun = time.perf_counter()
        await server.sign(ONE, *requests)
        return len(requests) / (time.perf_counter() - begun)

    assert asyncio.run(scenario()) > 200
