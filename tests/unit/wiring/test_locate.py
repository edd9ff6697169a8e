from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.wiring.locate import line_of, lines

TEXT = '''# a comment
title = "x"  # = not a key

[app]
name = "bank"
demo = [
  "python", # "quoted = comment"
  "[not a table]",
]

[[service]]
name = "wallet"
env = { A = "1", B = "}" }
"quoted key" = 1
text = """
[still.text]
key = "no"
"""
raw = \'\'\'
it's [raw]
\'\'\'

[[service]]
name = "users"
limits.cpu . shares = 3
[service.nested]
deep = true

[[service]]
[a."b.c".d]
e = 1
'''


def test_every_kind_of_key_is_found_on_its_line():
    tomllib.loads(TEXT)
    found = lines(TEXT)
    expected = {
        ("title",): "title =",
        ("app",): "[app]",
        ("app", "demo"): "demo =",
        ("service", 0): "[[service]]",
        ("service", 0, "name"): 'name = "wallet"',
        ("service", 0, "env"): "env =",
        ("service", 0, "quoted key"): '"quoted key"',
        ("service", 0, "text"): "text =",
        ("service", 0, "raw"): "raw =",
        ("service", 1, "name"): 'name = "users"',
        ("service", 1, "limits", "cpu", "shares"): "limits.cpu",
        ("service", 1, "nested", "deep"): "deep =",
        ("a", "b.c", "d", "e"): "e = 1",
    }
    text = TEXT.splitlines()
    for path, start in expected.items():
        assert text[found[path] - 1].startswith(start), path
    assert ("still",) not in found
    assert not any("key" in path for path in found)


def test_what_is_not_there_is_placed_at_the_nearest_thing_around_it():
    found = lines(TEXT)
    assert line_of(found, ("service", 1, "port")) == found[("service", 1)]
    assert line_of(found, ("nothing",)) == 1


def test_windows_line_ends_count_once():
    assert lines("a = 1\r\n\r\nb = 2\r\n")[("b",)] == 3


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab.=\"'[]{}#\\\n ,1u", max_size=60))
def test_no_text_stops_the_scanner(text):
    found = lines(text)
    assert all(1 <= line <= text.count("\n") + 1 for line in found.values())


_KEY = st.text("abcXYZ09_-", min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_KEY, st.dictionaries(_KEY, st.integers(), max_size=4)), max_size=5))
def test_arrays_of_tables_are_located_whatever_is_in_them(tables):
    rows, expected = [], {}
    for index, (comment, table) in enumerate(tables):
        rows.append(f"# {comment}\n[[t]]")
        for key, value in table.items():
            rows.append(f"{key} = {value}")
            expected[("t", index, key)] = "\n".join(rows).count("\n") + 1
    found = lines("\n".join(rows))
    assert {path: found[path] for path in expected} == expected
