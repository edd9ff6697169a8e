"""`rempart audit export`: what was found, as JSON lines, CSV or Parquet, on stdout or into a file."""

from __future__ import annotations

import contextlib
import csv
import io
import json as _json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from rempart.kernel.errors import BadInput, Conflict

from .audit_events import (
    Decision,
    PathOption,
    Person,
    Rule,
    Since,
    Text,
    Type,
    Until,
    Workload,
    given,
    pages,
)
from .output import printable, say
from .state import JsonOption, StateOption, state_dir

# Of Rempart's own fields, in the order of columns; `details`, `before` and `after` are JSON in one cell each.
FIELDS = (
    *("index", "time", "id", "type", "source", "success", "severity", "reason", "person", "role", "workload"),
    *("operator", "ip", "service", "request_id", "trace_id", "rule", "policy_version", "pep", "method", "path"),
    *("status", "code", "before", "after", "details"),
)
# What begins a formula, also in its full-width form: at the beginning of a text, or where a spreadsheet that separates
# by semicolons (those of half of Europe do) begins a cell of its own.
_FORMULA = re.compile(r"(^[\t\r\n]|(?:^|;)(?=[\s\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]))")
_PROGRESS_EVERY = 2.0

Page = list[dict[str, Any]]
Writer = Callable[[Iterator[Page], IO[bytes]], None]


def export(
    person: Person = None,
    workload: Workload = None,
    type: Type = None,
    since: Since = None,
    until: Until = None,
    decision: Decision = None,
    rule: Rule = None,
    path: PathOption = None,
    text: Text = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many, newest first; 0: all")] = 0,
    format: Annotated[str, typer.Option(help="jsonl (whole OCSF events), csv or parquet")] = "jsonl",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; default: stdout")] = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """What was found, newest first, to take away. What is recorded meanwhile is left out."""
    if format not in _WRITERS:
        raise BadInput("bad_format", f"there is no format {format!r}", f"choose {', '.join(_WRITERS)}")
    asked = given(person, workload, type, since, until, decision, rule, path, text) | {"fresh": "1"}
    if format == "jsonl":
        asked["full"] = "1"
    directory = state_dir(state)
    found = _progress(pages(directory, asked, limit or sys.maxsize), output)
    with _opened(output) as file:
        _WRITERS[format](found, file)


def _progress(found: Iterator[dict[str, Any]], output: Path | None) -> Iterator[Page]:
    told, count = time.monotonic(), 0
    for page in found:
        if not page.get("fresh", True):
            say("the newest events are left out: the log or its index is behind")
        yield page["events"]
        count += len(page["events"])
        if output is not None and time.monotonic() - told > _PROGRESS_EVERY:
            told = time.monotonic()
            say(f"{count:,} events")
    if output is not None:
        say(f"{count:,} events in {output}")


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """The file, for this user only; what failed half-way is no file."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise Conflict("file_exists", f"{output} is there already", "name another file, or remove it") from None
    except OSError as error:
        raise BadInput("unwritable", f"{output} can't be written: {error.strerror}", "name another file") from None
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def _write_jsonl(found: Iterator[Page], file: IO[bytes]) -> None:
    for page in found:
        for event in page:
            line = _json.dumps(event["event"], ensure_ascii=False, separators=(",", ":"))
            file.write(line.encode("utf-8", "backslashreplace") + b"\n")


def _write_csv(found: Iterator[Page], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(FIELDS)
    for page in found:
        writer.writerows([safe_cell(event.get(name)) for name in FIELDS] for event in page)
    text.detach()


def safe_cell(value: object) -> str:
    """What a spreadsheet shows and doesn't calculate: before what could be a formula stands an apostrophe.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = value if isinstance(value, str) else _json.dumps(value, ensure_ascii=True)
    return printable(_FORMULA.sub(_disarmed, text))


def _disarmed(match: re.Match[str]) -> str:
    return ";'" if match[0] == ";" else "'" + match[0]


def _write_parquet(found: Iterator[Page], file: IO[bytes]) -> None:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise BadInput(
            "no_parquet", "writing Parquet needs the package pyarrow", "pip install 'rempart[parquet]', or --format csv"
        ) from None
    kinds = {"index": arrow.int64(), "time": arrow.timestamp("ms", "UTC"), "success": arrow.bool_()}
    schema = arrow.schema([(name, kinds.get(name, arrow.string())) for name in FIELDS])
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for page in found:
            columns = [
                [event["at"] if name == "time" else _plain(event.get(name), name) for event in page] for name in FIELDS
            ]
            arrays = [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _plain(value: object, name: str) -> object:
    if value is None or name in ("index", "success"):
        return value
    text = value if isinstance(value, str) else _json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode()


_WRITERS: dict[str, Writer] = {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}
