"""What a policy is, what checking it says, and what it answers: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EvaluatorKind = Literal["rvm", "interpreter"]
MAIN = "data.rempart.main.decision"  # what is asked: the base rules first, then the application's entry point


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """`path` is relative to the policy directory, with `/`; built-in files start with `rempart/`."""

    path: str
    text: str

    @property
    def is_test(self) -> bool:
        return self.path.endswith("_test.rego")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A policy as it is loaded, checked and kept: its files, its data, and the rule that answers.

    `version` is the SHA-256 (hex) of all of it, the built-in rules included; `files` are in order of their paths.
    """

    files: tuple[PolicyFile, ...]
    data: Mapping[str, Any]
    entrypoint: str
    version: str

    @property
    def short(self) -> str:
        """How people and events name the version."""
        return self.version[:12]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a policy is refused, where. Line and column count from 1; 0 is unknown."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


@dataclass(frozen=True, slots=True)
class TestOutcome:
    """One `test_` rule. `name` is its path, `seconds` how long the interpreter took."""

    __test__ = False  # pytest, this isn't one of yours

    name: str
    passed: bool
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a trial found. `evaluator` is the fastest that answers as Rego says; `why` it isn't the RVM."""

    faults: tuple[Fault, ...] = ()
    tests: tuple[TestOutcome, ...] = ()
    evaluator: EvaluatorKind = "interpreter"
    why: str = ""
    inputs_compared: int = 0

    @property
    def ok(self) -> bool:
        return not self.faults and all(test.passed for test in self.tests)

    def summary(self) -> str:
        """One line: the first thing that is wrong, or how much was checked."""
        if self.faults:
            return str(self.faults[0])
        failed = [test for test in self.tests if not test.passed]
        if failed:
            return f"{failed[0].name} failed: {failed[0].reason}"
        return f"{len(self.tests)} tests passed, {self.inputs_compared} inputs answered alike by both evaluators"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy said of one input. `status` and `code` are for a refusal; 0 and "" leave them to the PDP."""

    allow: bool
    rule: str
    reason: str
    code: str = ""
    status: int = 0


@dataclass(frozen=True, slots=True)
class PolicyState:
    """What the PDP tells of the policy in force, and of the last one it refused."""

    version: str
    evaluator: EvaluatorKind
    why_not_rvm: str
    source: str  # "directory" | "last good" | "built-in"
    loaded_at: float
    tests: int
    entrypoint: str
    refused: str = ""
    refused_version: str = ""
    warnings: tuple[str, ...] = field(default=())
