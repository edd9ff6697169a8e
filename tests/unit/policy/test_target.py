"""Paths and queries: what two programs could read differently is refused."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.policy.target import BadTarget, Targets, parse


@pytest.mark.parametrize(
    "raw",
    [
        b"/a//b",
        b"//a",
        b"/./a",
        b"/a/.",
        b"/a/..",
        b"/%2e%2e/a",
        b"/a/%2E/b",
        b"/a%2fb",
        b"/a%5Cb",
        b"/a\\b",
        b"/a%00",
        b"/a%0d%0ax: y",
        b"/a;b=1",
        b"/a%3bb",
        b"/a%252e",
        b"/a%2",
        b"/a%zz",
        b"/a%ff",
        b"/\xc3\xa9",
        b"a",
        b"",
        b"/" + b"a" * 9000,
        b"/a?x=%ff",
        b"/a?x=%zz",
        b"/a?x=%00",
        b"/a?" + b"&".join(b"a%d=1" % i for i in range(200)),
    ],
)
def test_refused(raw: bytes) -> None:
    with pytest.raises(BadTarget):
        parse(raw)


@pytest.mark.parametrize(
    ("raw", "path", "segments"),
    [
        (b"/", "/", ()),
        (b"/wallet", "/wallet", ("wallet",)),
        (b"/wallet/", "/wallet/", ("wallet",)),
        (b"/users/%C3%A9", "/users/é", ("users", "é")),
        (b"/%61dmin", "/admin", ("admin",)),
        (b"/.well-known/x", "/.well-known/x", (".well-known", "x")),
        (b"/a...b", "/a...b", ("a...b",)),
    ],
)
def test_accepted(raw: bytes, path: str, segments: tuple[str, ...]) -> None:
    target = parse(raw)
    assert (target.path, target.segments) == (path, segments)


def _query(raw: bytes, *, masked: bool = False) -> object:
    target = parse(raw)
    return json.loads("{" + (target.masked if masked else target.head) + "}")["query"]


def test_repeated_names_become_arrays() -> None:
    assert _query(b"/a?x=1&y=2&x=3&&z") == {"x": ["1", "3"], "y": "2", "z": ""}
    assert _query(b"/a?x=1+2%2B3") == {"x": "1 2+3"}


def test_secrets_in_the_query_are_masked_in_the_record() -> None:
    raw = b"/a?access_token=abc&Password=x&code=1&state=ok&user_id=u1"
    assert _query(raw, masked=True) == {
        "access_token": "***",
        "Password": "***",
        "code": "***",
        "state": "ok",
        "user_id": "u1",
    }


def test_what_waits_at_peoples_pages_and_who_is_expected_there_is_masked() -> None:
    names = ("interaction", "request", "request_uri", "login_hint", "id_token_hint", "user_code")
    raw = b"/auth/sign-in?" + b"&".join(name.encode() + b"=x" for name in names) + b"&request_id=r&prompt=none"
    expected = dict.fromkeys(names, "***") | {"request_id": "r", "prompt": "none"}
    assert _query(raw, masked=True) == expected


@settings(max_examples=200)
@given(st.binary(max_size=80))
def test_any_bytes_give_a_target_or_a_refusal(raw: bytes) -> None:
    try:
        target = parse(b"/" + raw)
    except BadTarget:
        return
    document = json.loads("{" + target.head + "}")
    assert document["path"] == target.path
    assert not {".", ".."} & set(target.path.split("/"))
    assert "//" not in target.path
    assert not any(ord(character) < 32 for character in target.path)


@settings(max_examples=100)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\;%."), min_size=1), max_size=5
    )
)
def test_what_was_encoded_is_what_is_read(segments: list[str]) -> None:
    raw = "/" + "/".join(quote(segment, safe="") for segment in segments)
    assert list(parse(raw.encode()).segments) == segments


@settings(max_examples=100)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=6))
def test_queries_read_as_python_reads_them(query: dict[str, str]) -> None:
    text = urlencode(query, errors="replace")
    if "%00" in text:
        return
    wanted = {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}
    assert _query(b"/a?" + text.encode()) == wanted


def test_the_memory_is_bounded() -> None:
    targets = Targets(size=8)
    for number in range(100):
        targets.read(b"/a/%d" % number)
    assert len(targets._known) == 8
