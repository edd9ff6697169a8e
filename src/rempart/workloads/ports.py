"""What workload identity needs of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rempart.crypto.x509 import Certificate, EcKey
from rempart.kernel.event import Event, Recorder
from rempart.kernel.spiffe import SpiffeId

from .agents.model import Agent, JoinToken, ServiceAccount
from .containers import Container
from .model import (
    Adopted,
    Authorities,
    Entry,
    EntryChanges,
    Facts,
    JwtDraft,
    PublishedKey,
    Selector,
    ServerRow,
    ServerRows,
    Told,
    ToldRoots,
    X509Svid,
)

Made = TypeVar("Made")

if TYPE_CHECKING:
    from .federation import Partner
    from .foreign_bundle import ForeignBundle


class EntryStore(Protocol):
    """Registration entries that operators applied. Calls come from one thread at a time, maybe not the same one."""

    def load(self) -> list[Entry]:
        """All, in the order of their ids; raises Integrity `entry_store_broken` when what is stored isn't an entry."""

    def replace(self, put: Sequence[Entry], remove: Sequence[str]) -> None:
        """In one transaction put the entries (by id, over what was there) and remove the ids (absent ones are passed
        over). Durable when it returns; raises Unavailable `entry_store_failed` and then nothing has changed."""

    def close(self) -> None: ...


class EntriesMoved(Exception):
    """Somebody else changed entries since the revision that a change was decided by: look again."""


class SharedEntryStore(Protocol):
    """Registration entries that several servers read and change. Raises Unavailable `store_unavailable`."""

    async def changes(self, revision: int) -> EntryChanges | None:
        """What differs from what was there at `revision` (0: nothing was); None: nothing does.

        Raises Integrity `entry_store_broken` when what is stored isn't an entry of ours.
        """

    async def replace(self, put: Sequence[Entry], remove: Sequence[str], revision: int) -> int:
        """As `EntryStore.replace`; the revision afterwards. Raises EntriesMoved when it is not `revision` before."""

    async def close(self) -> None: ...


class ServerStore(Protocol):
    """The servers of a trust domain. Durable when a call returns; raises Unavailable `store_unavailable`."""

    async def read(self) -> ServerRows:
        """One snapshot."""

    async def publish(self, row: ServerRow, *, remove: Sequence[ServerRow], above: int) -> ServerRows:
        """Put a server's row, whoever wrote it last, remove others that didn't beat since, and count the bundle's
        sequence up to one greater than `above` and than it was: in one transaction. What is there afterwards."""

    async def beat(self, row: ServerRow) -> bool:
        """`beat`, `seen` and `at` of a server; False when its row is gone or another incarnation's."""


class AgentStore(Protocol):
    """The agents of a trust domain and the join tokens that are open; several servers may share one store.

    Durable when a call returns; raises Unavailable `store_unavailable` and then nothing has changed.
    """

    async def agents(self) -> list[Agent]:
        """All, in the order of their SPIFFE IDs."""

    async def find(self, spiffe_id: str) -> Agent | None: ...

    async def change(self, spiffe_id: str, how: Callable[[Agent | None], Agent | None]) -> Agent | None:
        """Put what `how` makes of the agent of that id (None: there is none; returned None: forget it), in one
        transaction, and return it. `how` may be called more than once; what it raises is raised, nothing changed."""

    async def put_token(self, token: JoinToken) -> None: ...

    async def take_token(self, digest: str) -> JoinToken | None:
        """Give it, once: of all that ask at the same time one gets it."""

    async def void_tokens(self, spiffe_id: str) -> int:
        """Forget those for the agent of that id; how many there were."""

    async def sweep(self, before: float) -> None:
        """Forget tokens and agents that expired before that; banned agents stay, for a ban to stay."""


class ServiceAccountTokens(Protocol):
    """A Kubernetes cluster, which knows its own service-account tokens."""

    async def review(self, token: str, audience: str) -> ServiceAccount:
        """Whose it is, where it is valid now and for this audience. Raises Unauthenticated `k8s_token_refused`,
        Unavailable `no_answer`."""


class ServerConnection(Protocol):
    """An agent's way to its server, or to one of several."""

    def use(self, roots: Sequence[Certificate], svid: X509Svid | None) -> None:
        """From the next connection on trust these roots (none: whoever answers) and show this SVID."""

    async def ask(self, method: str, path: str, body: bytes = b"", *, within_s: float) -> bytes:
        """The answer's body. Raises Unavailable `server_away` | `not_the_server`, and what the server refuses with."""

    async def close(self) -> None: ...


class KnownEntries(Protocol):
    """The registration entries that concern this host: all of them at a server, its own at an agent."""

    def entries(self) -> Sequence[Entry]: ...

    def matching(self, facts: Facts) -> list[Entry]:
        """Every entry all of whose selectors are among the facts, one for each hint or id."""

    def asks_for(self) -> frozenset[tuple[str, str]]:
        """(type, kind) of every selector in use."""

    def next_expiry(self) -> float | None: ...


class PartnerBundles(Protocol):
    def bundles(self, trust_domains: Sequence[str]) -> Sequence[ForeignBundle]:
        """Of other trust domains: those that are known."""


class X509Signer(Protocol):
    """Who signs X.509-SVIDs: an issuing CA in this process, or a server."""

    @property
    def roots(self) -> tuple[Certificate, ...]:
        """What the trust domain trusts."""

    @property
    def generation(self) -> str:
        """When it is another one, what was signed before is to be replaced before its time."""

    async def sign(self, entry: Entry, key: EcKey) -> tuple[Certificate, ...]:
        """Leaf first, without the root. Raises Unavailable when nothing can be signed now."""


class IssueRecorder(Recorder, Protocol):
    """A recorder that signs while its disk writes: `rempart.audit.journal.Journal`."""

    async def record_while(self, event: Event, make: Callable[[], Made]) -> Made:
        """What `make` gives, once `event` is on disk. Raises as `record` does, and what `make` raises."""


class JwtSigner(Protocol):
    """Who signs JWT-SVIDs, and by which keys they are verified."""

    @property
    def active_kid(self) -> str:
        """When it is another one, tokens that are kept are no longer given."""

    @property
    def sequence(self) -> int:
        """Of the bundle."""

    def public_keys(self) -> tuple[Mapping[str, Any], ...]: ...

    async def draft(self, entry: Entry, audiences: tuple[str, ...]) -> JwtDraft:
        """To be signed while the disk writes its record. Raises Unavailable when nothing can be signed now."""

    def validate(self, token: str, audience: str) -> tuple[SpiffeId, dict[str, Any]]:
        """Raises Unauthenticated `invalid_jwt_svid`, BadInput `bad_audience`."""


class BundleStore(Protocol):
    """What this server publishes and what the others of its trust domain do. Reads come from memory. One event loop."""

    @property
    def sequence(self) -> int:
        """Grows with every change of what the bundle shows, whoever made it, and never goes back."""

    @property
    def keys(self) -> tuple[PublishedKey, ...]:
        """Ours, those from before a restart among them."""

    @property
    def others(self) -> Authorities: ...

    @property
    def lead(self) -> float:
        """Seconds in which every server learns a new key: one that signs earlier might not be known."""

    def told(self) -> tuple[str, ...]:
        """Fingerprints of our roots, as of the last time that every server had told its workloads of them."""

    async def save(self, *, roots: Sequence[Certificate], keys: Sequence[PublishedKey]) -> None:
        """What we publish from now on. Durable when it returns; raises Unavailable `bundle_state_failed` |
        `store_unavailable`, and then nothing has changed."""


class AdoptingStore(BundleStore, Protocol):
    """Durable when a call returns; raises as `BundleStore.save`."""

    def adopted(self) -> Mapping[str, Adopted]:
        """By name, those whose time is over left out."""

    async def adopt(self, name: str, what: Adopted) -> None:
        """Trust it as well from now on, in place of what was adopted under that name."""

    async def disown(self, name: str) -> bool:
        """Trust it no more; False when nothing was adopted under that name."""


class ContainerEngine(Protocol):
    """Docker, or what answers like it."""

    async def container(self, container_id: str) -> Mapping[str, Any]:
        """As "Inspect a container" has it. Raises Unavailable `no_answer`."""


class BundleSource(Protocol):
    """Where partners' bundles come from."""

    async def fetch(self, partner: Partner, roots: Sequence[Certificate]) -> bytes:
        """`roots`: what is known of it already. Raises Unavailable `no_bundle`."""


class PodList(Protocol):
    """The kubelet of this node."""

    async def pods(self) -> Sequence[Mapping[str, Any]]:
        """Every pod of the node (core/v1). Raises Unavailable `no_answer`."""


class ContainerFacts(Protocol):
    """What is known of containers; `type` is that of its selectors."""

    type: str

    async def of(self, container: Container) -> set[Selector]:
        """Never raises: what can't be found out is no fact."""


class Supervisor(Protocol):
    """The process that started the others."""

    async def who(self, pid: int, *, hash_program: bool = False) -> Told | None:
        """None when the process is gone, and also when the supervisor doesn't answer: never a guess."""

    async def roots(self, kind: str, published: Sequence[str]) -> ToldRoots:
        """What is to be trusted and who signs; `published` are the fingerprints that peers are told at present.

        Raises Unavailable `supervisor_unavailable`.
        """

    async def sign(self, kind: str, request_pem: str) -> str:
        """The PEM certificate of an issuing CA, by way of the root-signer.

        Raises Unavailable `supervisor_unavailable` | `signing_refused`.
        """
