"""Who made the request that is being answered: two verified identities, never one borrowed from a header of theirs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar, cast

from rempart.kernel.errors import Denied, Unauthenticated
from rempart.kernel.principal import Person
from rempart.kernel.spiffe import SpiffeId

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Caller:
    """`workload` is the peer whose SVID the sidecar verified; `person` whose token was verified, if one came along.

    `claims` are the token's, empty without one. `decision_id` names the PDP's decision that let the request in.
    """

    workload: SpiffeId
    person: Person | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""
    decision_id: str = ""
    traceparent: str = ""
    authorization: str = field(default="", repr=False)

    def the_person(self) -> Person:
        """Raises Unauthenticated `token_required` where only a workload asks."""
        if self.person is None:
            raise Unauthenticated("token_required", "a person's access token is needed here", "log in, send the token")
        return self.person


current: ContextVar[Caller | None] = ContextVar("rempart_caller", default=None)


def caller() -> Caller:
    """The caller of the request being answered; raises Unauthenticated `not_protected` outside of one."""
    found = current.get()
    if found is None:
        raise Unauthenticated(
            "not_protected", "no verified request is being answered", "wrap the application in Protect"
        )
    return found


def requires(
    *, role: str | Collection[str] | None = None, workload: str | Collection[str] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let only these in: `role` of the person, `workload` SPIFFE ID of the peer; each one value or several.

    A second lock behind the policy, and written where the reader of the code sees it. Decorates a function or a
    coroutine function that answers a request; raises Unauthenticated `token_required`, Denied `role_required` or
    `workload_required`.
    """
    roles = frozenset((role,) if isinstance(role, str) else role or ())
    workloads = frozenset((workload,) if isinstance(workload, str) else workload or ())
    if not roles and not workloads:
        raise ValueError("requires() needs a role or a workload: with neither it would let everybody in")

    def check() -> None:
        who = caller()
        if workloads and str(who.workload) not in workloads:
            raise Denied("workload_required", "this workload may not do that", "call it from a workload that may")
        if roles and who.the_person().role not in roles:
            raise Denied("role_required", f"this needs the role {' or '.join(sorted(roles))}")

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def guarded_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                check()
                return await function(*args, **kwargs)

            return cast(Callable[P, R], guarded_coroutine)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            check()
            return function(*args, **kwargs)

        return guarded

    return decorate
