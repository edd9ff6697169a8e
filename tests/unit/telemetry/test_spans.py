"""What a span is, and the one under way (W3C Trace Context section 3.2)."""

from __future__ import annotations

import asyncio

import pytest

from rempart.telemetry.spans import Place, Span, Work, parent_of, step, under_way

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Kept(list[Span]):
    def put(self, span: Span) -> None:
        self.append(span)


@pytest.mark.parametrize("flags", ["01", "03", "ff", "0b"])
def test_a_sampled_parent_is_obeyed(flags: str) -> None:
    assert parent_of(f"00-{TRACE}-{ABOVE}-{flags}") == Place(TRACE, ABOVE)


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        f"00-{TRACE}-{ABOVE}-00",
        f"00-{TRACE}-{ABOVE}-02",
        f"00-{'0' * 32}-{ABOVE}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{ABOVE}-01",
        f"00-{TRACE.upper()}-{ABOVE}-01",
        f"00-{TRACE}-{ABOVE}-01\n",
        f"00-{TRACE}-{ABOVE}",
    ],
)
def test_whatever_else_came_is_not_traced(traceparent: str) -> None:
    assert parent_of(traceparent) is None


def test_without_a_span_under_way_a_step_is_nothing() -> None:
    with step("hash"):
        assert under_way() is None


def test_steps_are_below_the_work_of_their_own_task() -> None:
    kept = Kept()

    async def work(number: int) -> None:
        with Work(kept, Place(f"{number:032x}", ABOVE), f"work {number}"):
            await asyncio.sleep(0)
            with step("hash"):
                await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(work(1), work(2))

    asyncio.run(both())
    assert under_way() is None
    tops = {span.trace_id: span for span in kept if span.name.startswith("work")}
    below = {span.trace_id: span for span in kept if span.name == "hash"}
    assert len(tops) == len(below) == 2
    for trace, span in below.items():
        assert span.parent_id == tops[trace].span_id
        assert tops[trace].start_ns <= span.start_ns <= span.end_ns <= tops[trace].end_ns
        assert tops[trace].parent_id == ABOVE


def test_an_error_is_told_by_its_kind_not_by_its_words() -> None:
    kept = Kept()
    with pytest.raises(ValueError, match="hunter2"), Work(kept, None, "work"):
        raise ValueError("hunter2")
    (span,) = kept
    assert (span.failed, dict(span.attributes)) == (True, {"error.type": "ValueError"})
