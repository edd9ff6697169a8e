"""All attacks there are."""

from __future__ import annotations

from collections.abc import Sequence

from rempart.kernel.errors import BadInput

from . import (
    access,
    administration,
    bound,
    clients,
    codes,
    denial,
    devices,
    ended,
    factors,
    handshakes,
    headers,
    host,
    leaving,
    logins,
    money,
    nodes,
    other_hosts,
    pages,
    paths,
    poisoned,
    recorded,
    rollbacks,
    searched,
    smuggling,
    split,
    svids,
    taken_over,
    tokens,
    watched,
    workloads,
)
from .model import Attack

_MODULES = (
    denial,
    handshakes,
    tokens,
    headers,
    paths,
    smuggling,
    access,
    logins,
    codes,
    clients,
    pages,
    leaving,
    ended,
    devices,
    factors,
    administration,
    bound,
    watched,
    poisoned,
    workloads,
    svids,
    nodes,
    other_hosts,
    taken_over,
    host,
    recorded,
    searched,
    split,
    money,
    rollbacks,
)


def catalog() -> list[Attack]:
    """In the order in which they begin: the slow ones first. Ids are unique."""
    return [attack for module in _MODULES for attack in module.attacks()]


def select(only: Sequence[str]) -> list[Attack]:
    """Those whose id is, or begins with, one of `only` (all without any); raises BadInput `unknown_attack`."""
    attacks = catalog()
    unknown = [wanted for wanted in only if not any(attack.id.startswith(wanted) for attack in attacks)]
    if unknown:
        raise BadInput(
            "unknown_attack",
            f"no attack's id begins with {unknown[0]!r}",
            "see `rempart attack --list`",
        )
    return [attack for attack in attacks if not only or any(attack.id.startswith(wanted) for wanted in only)]
