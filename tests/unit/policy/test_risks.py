"""Risks that the models tell: asked once more to log in, never shut out, and nothing without models."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from tests.support import short_directory

from rempart.detection.models.model import Level, Rating, Subject
from rempart.detection.models.risks import Risks as Told
from rempart.kernel.clock import SystemClock
from rempart.policy.claims import Claims, ClaimsReader
from rempart.policy.risks import LONGEST, MOST, RiskFollower, Risks

NOW = 1_800_000_000.0


def claims(authenticated: float | None = NOW - 100, subject: str = "usr_a") -> Claims:
    document = {"iss": "i", "aud": "a", "sub": subject, "exp": int(NOW + 600), "iat": int(NOW - 100)}
    if authenticated is not None:
        document["auth_time"] = int(authenticated)
    raw = base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=")
    return ClaimsReader("i", "a").read(raw, NOW)


def told(level: str = "high", since: float = NOW - 50, until: float = NOW + 600) -> Risks:
    risks = Risks()
    risks.take([("usr_a", level, since, until)], NOW)
    return risks


def test_a_token_from_before_the_risk_has_to_be_renewed_and_one_from_after_it_passes() -> None:
    risks = told()
    assert risks.must_prove(claims(NOW - 100), NOW)
    assert not risks.must_prove(claims(NOW - 10), NOW)
    assert not risks.must_prove(claims(NOW - 100, "usr_b"), NOW)


def test_programs_medium_risks_and_those_that_are_over_are_left_alone() -> None:
    assert not told().must_prove(claims(None), NOW)
    assert not told("medium").must_prove(claims(), NOW)
    assert not told().must_prove(claims(), NOW + 700)
    off = told()
    off.step_up = False
    assert not off.must_prove(claims(), NOW)


def test_policies_see_the_level_of_whoever_asks() -> None:
    assert told("medium").member(claims(), "", NOW) == ',"risk":"medium"'
    assert told().member(None, "usr_a", NOW) == ',"risk":"high"'
    assert told().member(claims(), "", NOW + 700) == ""
    assert Risks().member(claims(), "", NOW) == ""


def test_what_is_told_is_bounded_in_number_level_and_time() -> None:
    risks = Risks()
    risks.take([(f"usr_{n}", "high", NOW, NOW + 1e12) for n in range(MOST + 5)] + [("x", "huge", NOW, NOW + 9)], NOW)
    assert len(risks.of) == MOST
    assert max(risk.until for risk in risks.of.values()) == NOW + LONGEST
    risks.take([], NOW)
    assert risks.of == {}


def rating(level: Level = Level.HIGH, person: str = "usr_a", at: float = NOW) -> Rating:
    return Rating(Subject.LOGINS, f"person:{person}", at, "evt_1", 0.999, 1.0, level, "logins-1")


def test_the_models_tell_the_pdp_and_its_silence_takes_nothing_away() -> None:
    async def go(path: Path) -> None:
        source = Told(lambda: SystemClock().now())
        risks = Risks()
        server = await asyncio.start_unix_server(source.serve, path=str(path))
        follower = asyncio.create_task(RiskFollower(risks, str(path), SystemClock()).run())
        while not risks.told:
            await asyncio.sleep(0.01)
        source.raise_(rating(at=SystemClock().now()))
        while not risks.of:
            await asyncio.sleep(0.01)
        server.close()
        assert set(risks.of) == {"usr_a"}
        source.clear("usr_a")
        while risks.of:
            await asyncio.sleep(0.01)
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)

    with short_directory() as directory:
        asyncio.run(asyncio.wait_for(go(directory / "r"), 60))


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b'{"risks": [["a", 1, 2, 3]]}\n', b'{"risks": null}\n', b"x" * (2 << 20)]
)
def test_a_line_that_makes_no_sense_ends_nothing(line: bytes) -> None:
    async def go(path: Path) -> None:
        asked = 0
        again = asyncio.Event()

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            if asked > 1:
                again.set()
            writer.write(line)
            writer.close()

        server = await asyncio.start_unix_server(speak, path=str(path))
        risks = told()
        follower = asyncio.create_task(RiskFollower(risks, str(path), SystemClock()).run())
        await again.wait()
        assert set(risks.of) == {"usr_a"}
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        server.close()

    with short_directory() as directory:
        asyncio.run(asyncio.wait_for(go(directory / "r"), 60))


def test_a_high_risk_is_not_lowered_by_a_medium_one_and_old_ratings_raise_none() -> None:
    source = Told(lambda: NOW)
    source.raise_(rating())
    source.raise_(rating(Level.MEDIUM))
    assert source.active()["usr_a"].level is Level.HIGH
    assert source.raise_(rating(person="usr_b", at=NOW - 7200)) is None
    assert source.raise_(rating(Level.LOW, "usr_c")) is None


def test_the_list_of_risks_is_bounded() -> None:
    source = Told(lambda: NOW)
    for n in range(2100):
        source.raise_(rating(person=f"usr_{n}", at=NOW + n / 1000))
    assert len(source.active()) == 2000
    assert "usr_0" not in source.of
