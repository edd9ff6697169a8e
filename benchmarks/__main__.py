"""Run every benchmark, print one table, and write the same as JSON with `--json FILE`.

    python -m benchmarks [NAME ...] [--json FILE]

A benchmark is a module of this package with `run() -> list[dict]`; a row has `what`, `against`, `ours`, `peer` (with
units), `ratio`, `target`; a row that could not be measured has `skipped` with the reason instead.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from typing import Any

NAMES = (
    "pdp",
    "ext_authz",
    "protected_request",
    "audit",
    "search",
    "detections",
    "audit_log",
    "audit_lag",
    "backlog",
    "login",
    "people",
    "payment",
    "workload_api",
    "workloads_scale",
    "remote_workloads",
    "footprint",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; default all")
    parser.add_argument("--json", metavar="FILE", help="write the rows there as well")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    rows: list[dict[str, Any]] = []
    for name in options.names or NAMES:
        print(f"… {name}", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"benchmarks.{name}").run()
    _print(rows)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


def _print(rows: list[dict[str, Any]]) -> None:
    from rempart.cli.output import print_table

    def cells(row: dict[str, Any]) -> list[str]:
        if "skipped" in row:
            return [row["what"], row.get("against", ""), "", "", "skipped: " + row["skipped"], ""]
        ratio = f"{row['ratio']:.2f}×" if row.get("ratio") is not None else ""
        return [row["what"], row.get("against", ""), row["ours"], row.get("peer", ""), ratio, row.get("target", "")]

    print_table(["what", "against", "ours", "peer", "ratio", "reach"], [cells(row) for row in rows])


if __name__ == "__main__":
    main()
