"""`rempart audit sinks|reindex`: how far events got on their way to other systems and into the search index."""

from __future__ import annotations

import time

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir


def sinks(state: StateOption = None, json: JsonOption = False) -> None:
    """How far each sink of rempart.toml got, and what hinders it. Ends with 1 while one is failing."""
    document = call(state_dir(state), "shipper", "GET", "/sinks")
    if json:
        print_json(document)
    else:
        rows = [
            (one["name"], one["state"], one["next"], one["waiting"], f"{one['lag_seconds']:.1f} s", one["rejected"])
            for one in document["sinks"]
        ]
        print_table(("sink", "state", "next", "waiting", "for", "refused"), rows)
        for one in document["sinks"]:
            if one["failing"]:
                say(f"{one['name']}: {one['failing']}")
    if any(one["failing"] for one in document["sinks"]):
        raise SystemExit(1)


def reindex(state: StateOption = None, json: JsonOption = False) -> None:
    """Throw the search index away and build it again from the log, while everything goes on."""
    directory = state_dir(state)
    document = call(directory, "sequencer", "POST", "/index/rebuild")
    size, told = document["size"], time.monotonic()
    while document["indexed"] < size:
        time.sleep(0.1)
        document = call(directory, "sequencer", "GET", "/index")
        if not json and time.monotonic() - told > 1.0:
            told = time.monotonic()
            say(f"{document['indexed']:,} of {size:,} events")
    if json:
        print_json(document)
    else:
        say(f"{size:,} events are indexed")
