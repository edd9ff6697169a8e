"""An agent's own life: it joins, keeps its SVID fresh, and follows what the server tells it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from rempart.crypto import aead
from rempart.crypto.svid import verify_svid
from rempart.crypto.x509 import BACKDATED, Certificate, EcKey, same_key
from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity, RempartError, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.model import X509Svid
from rempart.workloads.ports import ServerConnection

from . import messages
from .evidence import ASK_WITHIN, Evidence
from .knowledge import Knowledge
from .messages import Admitted, Renew, Synced
from .model import AGENTS

SYNC_WITHIN = 40.0
RETRY = (0.5, 30.0)
"""Seconds between attempts while the server is away: at first, and at last. Half of each is chance."""
LOST = frozenset({"agent_unknown", "agent_superseded"})
BANNED = "agent_banned"
_SLICE = 5.0
_ROOM = 1 << 14
_CONTEXT = b"rempart/agent/state/v1"


class _Kept(msgspec.Struct, frozen=True):
    """What a restart needs: who the agent is, and what it knew."""

    key: bytes
    chain: list[bytes]
    bundle: str
    synced: Synced | None


class Membership:
    """`path` holds the agent's key and what it knows, sealed under `seal_key`. `alarm` records what people should know.
    One event loop."""

    def __init__(
        self,
        server: ServerConnection,
        knowledge: Knowledge,
        evidence: Evidence,
        *,
        path: Path,
        seal_key: bytes,
        clock: Clock,
        alarm: Callable[[str], Awaitable[None]],
    ) -> None:
        self._server, self._knowledge, self._evidence = server, knowledge, evidence
        self._path, self._key, self._clock, self._alarm = path, seal_key, clock, alarm
        self._bundle = ""
        self._begun = 0.0
        self._unsaved = False
        self.svid: X509Svid | None = None
        self.away_since: float | None = None
        """When the server stopped answering; None while it answers."""
        self.refused = ""
        """The code that the server refuses this agent with; empty while it doesn't."""

    @property
    def spiffe_id(self) -> str:
        return str(self.svid.spiffe_id) if self.svid else ""

    # -- beginning -----------------------------------------------------------------------------------------------

    async def begin(self, bundle: str) -> None:
        """As the agent of before, with what it knew, where its SVID is valid: then nobody is asked, and the server may
        be away. Else join and learn. `bundle` is what the operator said to trust, "" to trust whoever answers.

        Raises what joining raises, Integrity `agent_state_broken`.
        """
        self._load()
        if not self._knowledge.roots and bundle:
            self._knowledge.trust(bundle)
            self._bundle = bundle
        self._server.use(self._knowledge.roots, self.svid)
        if self.svid is None:
            await self._join()
        if not self._knowledge.version:
            await self.synchronise()

    async def _join(self) -> None:
        self._server.use(self._knowledge.roots, None)
        key = EcKey.generate()
        join = await self._evidence.join(self._server, key.request_der())
        self._check_room()  # a token is not spent where what comes for it can't be kept
        self._take(key, await self._server.ask("POST", "/v1/join", messages.encode(join), within_s=ASK_WITHIN))

    def _take(self, key: EcKey, answer: bytes) -> None:
        """The agent's new SVID, checked and kept before it is used. Raises Unavailable `bad_answer` |
        `agent_state_failed`, and then the one before is still in use: the server takes it until this one is shown. In
        the last quarter of that one's life this one is used all the same: an agent without one may need a new token."""
        admitted = messages.read_answer(answer, Admitted)
        self._knowledge.trust(admitted.bundle)
        roots, domain = [root.der for root in self._knowledge.roots], self._knowledge.trust_domain
        found = verify_svid(admitted.svid, roots, trust_domain=domain, now=self._clock.now())
        if not found.path.startswith(AGENTS) or not same_key(admitted.svid[0], key):
            raise Unavailable("bad_answer", "the server made this host something else than an agent")
        self._bundle = admitted.bundle
        taken = _svid(found, key, admitted.svid)
        try:
            self._save(taken)
        except Unavailable:
            if not self._ends_soon():
                self._server.use(self._knowledge.roots, self.svid)  # the roots may be new
                raise
            self._unsaved = True
        self.svid, self._begun = taken, self._clock.now()
        self._server.use(self._knowledge.roots, self.svid)

    def _ends_soon(self) -> bool:
        if self.svid is None:
            return False
        return self._clock.now() >= self._begun + (self.svid.leaf.not_after - self._begun) * 3 / 4

    # -- going on ------------------------------------------------------------------------------------------------

    async def synchronise(self) -> None:
        """Ask for news, and learn them: they count at once, and are kept as soon as there is room. Raises as
        `ServerConnection.ask`, BadInput, Unavailable `agent_state_failed`."""
        path = f"/v1/sync?seen={self._knowledge.version}"
        synced = messages.read_answer(await self._server.ask("GET", path, within_s=SYNC_WITHIN), Synced)
        if synced.version != self._knowledge.version:
            roots = self._knowledge.roots
            self._knowledge.learn(synced, self.spiffe_id)
            self._bundle, self._unsaved = synced.bundle, True
            if self._knowledge.roots != roots:
                self._server.use(self._knowledge.roots, self.svid)
        if self._unsaved:
            self._save(self.svid)

    async def ask(self, path: str, *, within_s: float) -> bytes:
        """As `ServerConnection.ask`, GET; an agent that the server has forgotten joins again first, where there is
        something to show."""
        try:
            return await self._server.ask("GET", path, within_s=within_s)
        except RempartError as error:
            if error.code not in LOST or not self._evidence.again:
                raise
        self._knowledge.forget_entries()
        self.svid = None
        await self._join()
        return await self._server.ask("GET", path, within_s=within_s)

    async def keep_synchronised(self) -> None:
        """Until the agent is none any more and can't become one by itself: then it raises why."""
        await self._again_and_again(self.synchronise, self._now_is_due)

    async def keep_fresh(self) -> None:
        """A new SVID in the second half of each one's life, a new membership where there is none. Raises as above."""
        await self._again_and_again(self._renew, self._renewal_is_due)

    async def _again_and_again(self, work: Callable[[], Awaitable[None]], due: Callable[[], Awaitable[None]]) -> None:
        """While the server is away try ever more rarely, by chance: agents whose server restarts don't all come back
        in one moment."""
        wait = RETRY[0]
        while True:
            await due()
            try:
                await work()
            except RempartError as error:
                await self._heard(error)
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # nosec B311 - jitter, no secret
                wait = min(wait * 2, self._longest())
            else:
                self.away_since, self.refused, wait = None, "", RETRY[0]

    def _longest(self) -> float:
        """Seconds between attempts at last: several fit into each quarter of an SVID's life."""
        if self.svid is None:
            return RETRY[1]
        return min(max((self.svid.leaf.not_after - self._begun) / 16, RETRY[0]), RETRY[1])

    async def _now_is_due(self) -> None:
        while self.svid is None:  # noqa: ASYNC110 - `keep_fresh` joins again, and fails more often than not
            await asyncio.sleep(RETRY[0])

    async def _renewal_is_due(self) -> None:
        chance = random.uniform(0.8, 1.0)  # nosec B311 - jitter, no secret
        while self.svid is not None:
            due = self._begun + (self.svid.leaf.not_after - self._begun) / 2 * chance - self._clock.now()
            if due <= 0:
                return
            await asyncio.sleep(min(due, _SLICE))  # in slices, so that a clock that jumped is noticed

    async def _renew(self) -> None:
        if self.svid is None or self._clock.now() >= self.svid.leaf.not_after:
            self._knowledge.forget_entries()
            self.svid = None
            await self._join()
            return
        key = EcKey.generate()
        body = messages.encode(Renew(key.request_der()))
        self._take(key, await self._server.ask("POST", "/v1/renew", body, within_s=ASK_WITHIN))

    async def _heard(self, error: RempartError) -> None:
        """A refusal means that the workloads here are nobody. Raises it where only people can help."""
        if isinstance(error, Unavailable):
            if self.away_since is None and error.code != "agent_state_failed":
                self.away_since = self._clock.now()
            return
        if error.code == "bad_svid" and self.svid is not None and self._clock.now() < self.svid.leaf.not_after:
            return  # a question that was held on a connection made with the SVID before this one
        if error.code in LOST or error.code == BANNED:
            self.refused = error.code
            if self._knowledge.version:
                await self._alarm(f"the server refuses this agent: {error.reason}")
            self._knowledge.forget_entries()
        if error.code == BANNED:
            return  # the ban may be lifted
        if not self._evidence.again:
            raise error
        if error.code in LOST:
            self.svid = None
            self._save(None)
        await self._alarm(f"this agent was refused: {error.reason}")

    # -- what is kept --------------------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            kept = msgspec.json.decode(aead.unseal(self._key, self._path.read_bytes(), _CONTEXT), type=_Kept)
            if kept.bundle:
                self._knowledge.trust(kept.bundle)
                self._bundle = kept.bundle
            if not kept.chain:
                return
            roots, domain = [root.der for root in self._knowledge.roots], self._knowledge.trust_domain
            try:
                found = verify_svid(kept.chain, roots, trust_domain=domain, now=self._clock.now())
            except RempartError:
                return  # it expired, or its root is gone: join anew
            self.svid = _svid(found, EcKey.from_der(kept.key), kept.chain)
            self._begun = min(self.svid.leaf.not_before + BACKDATED, self._clock.now())
            if kept.synced is not None:
                self._knowledge.learn(kept.synced, str(found))
        except FileNotFoundError:
            return
        except (RempartError, msgspec.DecodeError):
            raise Integrity(
                "agent_state_broken",
                f"{self._path} is not what this agent wrote",
                "find out who changed it; remove it and let the agent join again",
            ) from None

    def _check_room(self) -> None:
        """Raises Unavailable `agent_state_failed`."""
        probe = self._path.with_suffix(".probe")
        try:
            replace_file(probe, bytes(_ROOM))
            probe.unlink()
        except OSError as error:
            raise Unavailable("agent_state_failed", f"{self._path} can't be written: {error.strerror}") from None

    def _save(self, svid: X509Svid | None) -> None:
        """Raises Unavailable `agent_state_failed`."""
        chain = [one.der for one in svid.chain] if svid else []
        key = svid.key.to_der() if svid else b""
        synced = self._knowledge.synced if self._knowledge.version else None
        kept = _Kept(key, chain, self._bundle, synced)
        try:
            replace_file(self._path, aead.seal(self._key, msgspec.json.encode(kept), _CONTEXT))
        except OSError as error:
            raise Unavailable("agent_state_failed", f"{self._path} can't be written: {error.strerror}") from None
        self._unsaved = False


def _svid(found: SpiffeId, key: EcKey, chain: list[bytes]) -> X509Svid:
    return X509Svid(found, "", tuple(map(Certificate.parse, chain)), key)
