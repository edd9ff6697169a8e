"""What takes cryptography before anything runs: the keys that the supervisor hands out, and the two roots."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec

from rempart.crypto.aead import derive_key
from rempart.kernel.errors import Integrity, Unavailable
from rempart.wiring.plan import Roots
from rempart.workloads import authority
from rempart.workloads.root_rotation import Root, RootSet

from .master_key import KEY_FILE_VARIABLE
from .root_store import UPSTREAM, RootStore
from .supervisor_keys import SupervisorKeys


def sealing_key(master: bytes) -> bytes:
    """The key that root keys are sealed under."""
    return derive_key(master, authority.SEAL_PURPOSE)


def process_key(master: bytes, name: str) -> bytes:
    return derive_key(master, f"process/{name}")


def supervisor_keys(master: bytes, processes: Iterable[str]) -> SupervisorKeys:
    return SupervisorKeys({name: process_key(master, name) for name in processes}, sealing_key(master))


def ensure_roots(store: RootStore, trust_domain: str, key: bytes) -> Roots:
    """Create what is missing, check what is there. `key` is `sealing_key`.

    Raises Integrity `seal_broken` | `root_state_broken` | `root_key_lost`, Unavailable `clock_before_start` |
    `root_expired` | `bad_upstream`.
    """
    certificates = {}
    for kind in authority.KINDS:
        known = store.load(kind)
        roots = _checked(known or RootSet(current=_first(store, kind, trust_domain, key)))
        for root in roots.roots:
            if root.sealed != UPSTREAM:
                _open(store, root, kind, trust_domain, key)
        if roots == known:
            store.show(kind, roots)
        else:
            store.save(kind, roots)
        check_clock(kind, roots.current, time.time())
        certificates[kind] = roots.pem
    return Roots(spiffe=certificates["spiffe"], web=certificates["web"])


def _first(store: RootStore, kind: str, trust_domain: str, key: bytes) -> Root:
    if store.is_upstream(kind):
        return store.upstream_root()
    return store.keep(authority.new_root(kind, trust_domain, key, name=f"{kind}-root.sealed"))


def _checked(roots: RootSet) -> RootSet:
    """With what its certificates say, as nobody looks into them later."""
    checked = {
        name: authority.described(root.certificate, root.sealed)
        for name in ("current", "next", "previous")
        if (root := getattr(roots, name)) is not None
    }
    return msgspec.structs.replace(roots, **checked)


def _open(store: RootStore, root: Root, kind: str, trust_domain: str, key: bytes) -> None:
    try:
        authority.unseal_root_key(key, store.sealed(root), kind=kind, trust_domain=trust_domain)
    except Integrity as error:
        if error.code != "seal_broken":
            raise
        raise Integrity(
            "seal_broken",
            f"the {kind} root in {store.secrets} does not open with this master key and trust domain",
            f"use the master key that it was made with ({KEY_FILE_VARIABLE}), or another --state",
        ) from None


def check_clock(kind: str, root: Root, now: float) -> None:
    if now < root.not_before:
        raise Unavailable(
            "clock_before_start",
            f"the clock of this host is before {time.ctime(root.not_before)}, when the {kind} root was made",
            "set the clock",
        )
    if now > root.not_after:
        raise Unavailable(
            "root_expired", f"the {kind} root has expired", "set the clock, or start with another --state"
        )
