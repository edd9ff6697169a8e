"""What workload identity needs of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rempart.crypto.x509 import Certificate

from .containers import Container
from .model import Entry, Selector, Told, ToldRoots

if TYPE_CHECKING:
    from .federation import Partner


class EntryStore(Protocol):
    """Registration entries that operators applied. Calls come from one thread at a time, maybe not the same one."""

    def load(self) -> list[Entry]:
        """All, in the order of their ids; raises Integrity `entry_store_broken` when what is stored isn't an entry."""

    def replace(self, put: Sequence[Entry], remove: Sequence[str]) -> None:
        """In one transaction put the entries (by id, over what was there) and remove the ids (absent ones are passed
        over). Durable when it returns; raises Unavailable `entry_store_failed` and then nothing has changed."""

    def close(self) -> None: ...


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
