"""Read the metrics of all components at once and make one page; a dead one shows as `rempart_component_up 0`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from .exposition import Family, MalformedPage, gauge, merge, parse
from .ports import MetricsSource

# Longer than any component needs and shorter than Prometheus' default scrape timeout of 10 s.
TIMEOUT = 2.0


async def collect(sources: Mapping[str, MetricsSource], *, within: float = TIMEOUT, openmetrics: bool = False) -> str:
    """The merged page; never raises for what a component did. `within` is in seconds, for all components together."""
    answers = await asyncio.gather(*(_read(source, within) for source in sources.values()))
    pages = {name: families for name, families in zip(sources, answers, strict=True) if families is not None}
    merged = merge(pages)
    up = {name: float(name in pages) for name in sources}
    conflicts = {name: float(count) for name, count in merged.conflicts.items() if count}
    return (
        gauge("rempart_component_up", "1 when the component answered with its metrics.", up)
        + gauge("rempart_component_conflicts", "Metric families left out: another type under the same name.", conflicts)
        + (merged.openmetrics if openmetrics else merged.text)
    )


async def _read(source: MetricsSource, within: float) -> list[Family] | None:
    try:
        async with asyncio.timeout(within):
            return parse(await source.page())
    except (OSError, TimeoutError, MalformedPage, UnicodeDecodeError):
        return None
