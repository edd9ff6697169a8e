"""`[audit]` of rempart.toml: where the log is kept and for how long; no secret stands in the file, none is shown."""

from __future__ import annotations

from typing import Any

import pytest

from rempart.wiring.audit_store import LogStoreSettings, read_retention, read_store
from rempart.wiring.check import Problems, Reader

S3 = {"endpoint": "https://s3.example", "bucket": "record", "access_key": "AKIA", "secret_key": "${SECRET}"}


def read(**audit: Any) -> tuple[LogStoreSettings, dict[str, int], list[str]]:
    problems = Problems({})
    reader = Reader(audit, ("audit",), problems)
    store = read_store(reader, {"SECRET": "hidden", "EMPTY": ""})
    days = read_retention(reader)
    reader.no_more()
    return store, days, [f"{problem.reason} {problem.remedy}" for problem in problems.found]


def test_by_itself_a_directory_kept_for_ever() -> None:
    assert read() == (LogStoreSettings(), {}, [])


def test_s3_and_postgresql() -> None:
    store, _, problems = read(storage="s3", s3={**S3, "prefix": "bank"})
    assert (store.kind, store.prefix, store.secret_key, problems) == ("s3", "bank/", "hidden", [])
    assert "hidden" not in repr(store)
    store, _, problems = read(storage="postgresql://log:${SECRET}@db.internal/record")
    assert (store.kind, problems) == ("postgresql://log:hidden@db.internal/record", [])
    assert "hidden" not in repr(store)


@pytest.mark.parametrize(
    ("audit", "complaint"),
    [
        ({"storage": "s3"}, "endpoint"),
        ({"storage": "s3", "s3": {**S3, "secret_key": "hidden"}}, "may not stand in this file"),
        ({"storage": "s3", "s3": {**S3, "secret_key": "${EMPTY}"}}, "EMPTY is not set"),
        ({"storage": "s3", "s3": {**S3, "endpoint": "s3.example"}}, "no endpoint"),
        ({"storage": "s3", "s3": {**S3, "bucket": "Not A Bucket"}}, "can't be a bucket"),
        ({"storage": "postgresql://log:hidden@db/record"}, "password"),
        ({"storage": "ftp://x"}, "no address of a store"),
        ({"s3": S3}, "endpoint"),
        ({"retention": {"acces": 30}}, "acces"),
        ({"retention": {"access": -1}}, "access"),
    ],
)
def test_what_is_refused(audit: dict[str, Any], complaint: str) -> None:
    problems = read(**audit)[2]
    assert any(complaint in problem for problem in problems), problems


def test_days_by_class() -> None:
    assert read(retention={"access": 30, "money": 3650})[1] == {"access": 30, "money": 3650}
