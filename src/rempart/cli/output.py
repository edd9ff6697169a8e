"""What commands print: a table for people, one JSON document with `--json`; messages always go to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

from rempart.kernel.errors import RempartError


def print_json(document: Any) -> None:
    sys.stdout.write(
        json.dumps(document, ensure_ascii=False, separators=(",", ":") if not sys.stdout.isatty() else None)
    )
    sys.stdout.write("\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Borderless, aligned, and plain text wherever stdout isn't a terminal or `NO_COLOR` is set.

    What stands in a cell may come from anybody: brackets are no markup, and nothing steers the terminal.
    """
    from rich.console import Console
    from rich.table import Table

    shown = sys.stdout.isatty()
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=not shown, width=None if shown else 220)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else printable(str(cell)) for cell in row))
    console.print(table)


def printable(text: str) -> str:
    """Control and formatting characters (among them those that turn the direction of text) as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown_time(seconds: float | None) -> str:
    """As people read it, in UTC; nothing where there is none, the number itself where no calendar has it."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}" if seconds else ""
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def say(message: str) -> None:
    """Progress and remarks, on stderr."""
    print(message, file=sys.stderr, flush=True)


def fail(error: RempartError, *, as_json: bool = False) -> NoReturn:
    """Print the refusal and end with the exit code of its class."""
    if as_json:
        document: Mapping[str, str] = {"error": error.reason, "code": error.code, "remedy": error.remedy}
        print(json.dumps(document), file=sys.stderr, flush=True)
    else:
        say(f"rempart: {error}")
    raise SystemExit(error.exit_code)
