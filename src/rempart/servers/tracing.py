"""Where this process's spans go, as the supervisor said; nowhere without `[tracing]`."""

from __future__ import annotations

from rempart.telemetry.exporter import Collector, Exporter

from .boot import Boot


def exporter(boot: Boot) -> Exporter | None:
    """Begun: `close` it at the end. None: nothing is traced."""
    if not boot.tracing:
        return None
    told = boot.tracing
    return Exporter(Collector(told["url"], told["ca"], told["percent"]), boot.name).start()
