"""What deciding needs of others: an engine, a place to try a policy out, a journal, an explainer of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .model import Bundle, EvaluatorKind, Report


class Evaluator(Protocol):
    """A compiled policy. Bound to the thread that made it; holds the interpreter lock while it evaluates."""

    kind: EvaluatorKind
    fallbacks: int
    """How often the RVM gave up on an input (its instruction limit) and the interpreter answered."""

    def evaluate(self, input_json: str) -> str:
        """The value of `data.rempart.main.decision` for this input, as JSON; `null` when it is undefined.

        Raises Unavailable `policy_error` whatever goes wrong inside, a panic of the engine included. Pure: same
        policy, same input, same answer.
        """


class PolicyEngine(Protocol):
    def inspect(self, bundle: Bundle, given: Mapping[str, Any]) -> Report:
        """Parse, look for unknown functions and recursion, run the tests on every evaluator. Blocking.

        A hostile policy may take the process down or never end: call it where that does no harm (see Trial).
        `given` is what Rempart puts under `data.rempart`.
        """

    def prepare(self, bundle: Bundle, given: Mapping[str, Any], kind: EvaluatorKind) -> Evaluator:
        """Compile a bundle that `inspect` found good; raises BadInput `bad_policy`."""


class Trial(Protocol):
    """Inspects a policy in a process of its own, bounded in time and memory."""

    async def run(self, bundle: Bundle, given: Mapping[str, Any]) -> Report:
        """Never raises for a bad policy: a crash or a time-out is a fault of the report."""


class DecisionJournal(Protocol):
    """`rempart.audit.journal.Journal`, as far as deciding needs it."""

    def append(self, payload: bytes, repeat: bool = False) -> None: ...

    def commit(self) -> None:
        """Return when everything appended is on disk; raises Unavailable and then none of it is."""


class TokenExplainer(Protocol):
    def __call__(self, token: str, now: float) -> str:
        """Why a token that Envoy didn't accept is no good, in a few words; never raises, never repeats the token."""
