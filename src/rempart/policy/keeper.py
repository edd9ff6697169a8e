"""Which policy decides: loading, trying out, swapping, keeping the last good one.

    read → try (parse, unknown functions, recursion, entry point, tests on both evaluators; in a process of its own)
         → compile → keep a copy → record → swap

Anything that fails before the swap leaves the policy in force as it is. The copy in `data_dir` lets a PDP that starts
while the directory holds a bad policy go on with the good one.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, RempartError, Unavailable, Unprocessable
from rempart.kernel.event import Event, EventType, Recorder, Severity

from . import bundle as bundles
from .decide import Deciding
from .model import Bundle, PolicyState, Report
from .ports import PolicyEngine, Trial

ANALYSIS = 1  # grows when what a trial looks for changes: a kept policy is then tried again
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where the policy comes from. `given` is `data.rempart`; without `directory` the built-in one decides."""

    directory: Path | None
    entrypoint: str
    given: Mapping[str, Any]
    data_dir: Path


class Keeper:
    """One per process, on one event loop; `swap` is called on it."""

    def __init__(
        self,
        source: Source,
        engine: PolicyEngine,
        trial: Trial,
        recorder: Recorder,
        clock: Clock,
        swap: Callable[[Deciding], None],
    ) -> None:
        self._source = source
        self._engine = engine
        self._trial = trial
        self._recorder = recorder
        self._clock = clock
        self._swap = swap
        self._lock = asyncio.Lock()
        self._seen: object = None
        self.bundle: Bundle | None = None
        self.state: PolicyState | None = None

    async def start(self) -> None:
        """Put a policy in force; raises BadInput `bad_policy` when there is neither a good one nor a kept one."""
        kept, kept_report = self._kept()
        self._seen = self._fingerprint()
        try:
            bundle = self._read()
        except BadInput as error:
            await self._start_refused("", str(error), kept, kept_report)
            return
        if kept is not None and kept_report is not None and kept.version == bundle.version:
            await self._use(bundle, kept_report, operator=None)
            return
        report = await self._trial.run(bundle, self._source.given)
        if report.ok:
            await self._use(bundle, report, operator=None)
        else:
            await self._start_refused(bundle.short, report.summary(), kept, kept_report)

    async def reload(self, operator: str | None = None) -> PolicyState:
        """Read the directory again; raises Unprocessable `policy_refused`, and then the policy in force stays."""
        async with self._lock:
            self._seen = self._fingerprint()
            try:
                bundle = self._read()
            except BadInput as error:
                await self._refuse("", str(error.reason), operator)
                raise _refused(error.reason) from None
            state = self.state
            if state is not None and self.bundle is not None and bundle.version == self.bundle.version:
                self.state = replace(state, refused="", refused_version="", warnings=())
                return self.state
            report = await self._trial.run(bundle, self._source.given)
            if not report.ok:
                await self._refuse(bundle.short, report.summary(), operator)
                raise _refused(report.summary())
            await self._use(bundle, report, operator)
            if self.state is None:
                raise _refused("it could not be put in force")
            return self.state

    async def watch(self) -> None:
        """Reload whenever the files have changed and then been left alone for a poll. Runs until cancelled; what could
        not be kept or recorded is tried again."""
        changed: object = None
        said = ""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            now = self._fingerprint()
            if now == self._seen:
                changed = None
            elif now != changed:
                changed = now
            else:
                changed = None
                why = ""
                try:
                    await self.reload()
                except RempartError as error:
                    why = str(error)
                    if isinstance(error, Unavailable):
                        self._seen = None
                if why and why != said:
                    print(f"pdp: the changed policy is refused: {why}", file=sys.stderr, flush=True)
                said = why

    def documents(self) -> list[dict[str, str]]:
        """The policy in force as auditors read it: `{id, version, path, raw}` of each file."""
        bundle = self.bundle
        if bundle is None:
            return []
        return [{"id": f.path, "version": bundle.short, "path": f.path, "raw": f.text} for f in bundle.files]

    # -- steps ---------------------------------------------------------------------------------------------------

    def _read(self) -> Bundle:
        directory = self._source.directory
        if directory is None:
            return bundles.builtin(bundles.DEFAULT_ENTRYPOINT)
        return bundles.read_directory(directory, self._source.entrypoint)

    def _fingerprint(self) -> object:
        return bundles.fingerprint(self._source.directory) if self._source.directory else ()

    async def _use(
        self, bundle: Bundle, report: Report, operator: str | None, source: str = "", refused: str = ""
    ) -> None:
        evaluator = self._engine.prepare(bundle, self._source.given, report.evaluator)
        previous = self.bundle.short if self.bundle else None
        state = PolicyState(
            version=bundle.short,
            evaluator=report.evaluator,
            why_not_rvm=report.why,
            source=source or ("directory" if self._source.directory else "built-in"),
            loaded_at=self._clock.now(),
            tests=len(report.tests),
            entrypoint=bundle.entrypoint,
            refused=refused,
            warnings=(f"the policy directory is refused, the last good policy decides: {refused}",) if refused else (),
        )
        details: dict[str, Any] = {
            "policy_version": bundle.short,
            "sha256": bundle.version,
            "evaluator": report.evaluator,
        }
        details |= {"source": state.source, "files": [file.path for file in bundle.files], "tests": len(report.tests)}
        self._keep(bundle, report)
        await self._recorder.record(
            Event(
                type=EventType.POLICY_LOADED,
                at=state.loaded_at,
                success=True,
                operator=operator,
                before={"policy_version": previous} if previous else None,
                after={"policy_version": bundle.short},
                details=details,
            )
        )
        self.bundle, self.state = bundle, state
        self._swap(Deciding(evaluator, bundle.short))

    async def _refuse(self, version: str, why: str, operator: str | None) -> None:
        if self.state is not None:
            self.state = replace(self.state, refused=why, refused_version=version)
        await self._recorder.record(
            Event(
                type=EventType.POLICY_REFUSED,
                at=self._clock.now(),
                success=False,
                severity=Severity.MEDIUM,
                reason=why[:1000],
                operator=operator,
                details={"policy_version": version} if version else {},
            )
        )

    async def _start_refused(self, version: str, why: str, kept: Bundle | None, report: Report | None) -> None:
        await self._refuse(version, why, None)
        if kept is None or report is None:
            raise BadInput(
                "bad_policy", f"the policy is refused: {why}", "correct it; `rempart policy check` tells more"
            )
        print(
            f"pdp: THE POLICY IS REFUSED, the last good one ({kept.short}) decides: {why}", file=sys.stderr, flush=True
        )
        await self._use(kept, report, None, source="last good", refused=why)

    def _keep(self, bundle: Bundle, report: Report) -> None:
        """Atomically and durably, before the swap. Raises Unavailable `policy_not_kept`."""
        path = self._source.data_dir / "last-good.json"
        document = {
            "analysis": ANALYSIS,
            "version": bundle.version,
            "evaluator": report.evaluator,
            "why": report.why,
            "tests": len(report.tests),
            "bundle": json.loads(bundles.dump(bundle)),
        }
        try:
            self._source.data_dir.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(document).encode())
        except OSError as error:
            why = f"the policy can't be kept for the next start: {error.strerror}"
            raise Unavailable("policy_not_kept", why, "see that its disk is there and not full") from None

    def _kept(self) -> tuple[Bundle | None, Report | None]:
        """The kept policy, when it can be relied on; one kept by another analysis, base policy or damaged isn't."""
        try:
            document = json.loads((self._source.data_dir / "last-good.json").read_bytes())
            bundle = bundles.load(json.dumps(document["bundle"]).encode())
            if document["analysis"] != ANALYSIS or document["version"] != bundle.version:
                return None, None
            report = Report(
                evaluator="rvm" if document["evaluator"] == "rvm" else "interpreter", why=str(document["why"])
            )
        except FileNotFoundError:
            return None, None
        except (OSError, ValueError, KeyError, TypeError, BadInput) as error:
            print(f"pdp: the kept policy can't be read ({type(error).__name__})", file=sys.stderr, flush=True)
            return None, None
        return bundle, report


def _refused(why: str) -> Unprocessable:
    return Unprocessable(
        "policy_refused", f"the policy is refused: {why}", "correct it; the policy in force stays as it is"
    )
