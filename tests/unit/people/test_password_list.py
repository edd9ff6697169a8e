"""Lists of known passwords: never a wrong no, a bounded share of wrong yes, and nothing half-written."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.kernel.errors import BadInput, Unavailable
from rempart.people.breach_corpus import hashes
from rempart.people.password_list import COMMON, PasswordLists, about, sha1, write_list
from rempart.people.password_rules import PasswordRules


def test_what_everybody_chooses_is_listed_however_it_is_capitalised() -> None:
    common = PasswordLists([COMMON])
    for password in ("password1", "Qwerty123456789", "12345678987654321", "sunshine", "ELEPHANTS"):
        assert common.has(password)
    assert not common.has("a quiet river of glass 42")
    entries, wrong = about(COMMON)
    assert (entries > 40_000, wrong < 1.1e-4) == (True, True)
    with pytest.raises(BadInput, match="list of common or stolen"):
        PasswordRules(known=common).check("momsanaladventure", email="ann@bank.example", name="Ann")


def test_wrong_yes_is_as_rare_as_stated(tmp_path: Path) -> None:
    listed = [secrets.token_hex(8) for _ in range(2000)]
    write_list(tmp_path / "list", map(sha1, listed), len(listed), 100)
    lists = PasswordLists([tmp_path / "list"])
    assert all(map(lists.has, listed))
    wrong = sum(lists.has(secrets.token_hex(9)) for _ in range(5000))
    assert 10 <= wrong <= 110  # 50 expected
    assert 0.005 < about(tmp_path / "list")[1] < 0.015
    assert (tmp_path / "list").stat().st_size < 2000 * 10 / 8 + 65


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=30), st.integers(2, 10_000))
def test_never_a_wrong_no(tmp_path_factory: pytest.TempPathFactory, words: list[str], odds: int) -> None:
    path = tmp_path_factory.mktemp("list") / "list"
    assert write_list(path, map(sha1, words), len(words), odds) == len(words)
    assert all(_raw(path, word) for word in words)


def _raw(path: Path, word: str) -> bool:
    from rempart.people.password_list import _any_of

    return _any_of([sha1(word)], path)


def test_a_corpus_is_read_as_one_file_and_as_ranges(tmp_path: Path) -> None:
    digests = [hashlib.sha1(word).hexdigest() for word in (b"stolen once again", b"stolen very often")]
    one = tmp_path / "all.txt"
    one.write_text(f"{digests[0].upper()}:3\r\n{digests[1]}:900\n\n")
    assert [digest.hex() for digest in hashes(one)] == digests
    assert [digest.hex() for digest in hashes(one, 10)] == digests[1:]
    ranges = tmp_path / "ranges"
    ranges.mkdir()
    for digest in digests:
        (ranges / f"{digest[:5].upper()}.txt").write_text(f"{digest[5:].upper()}:7\n")
    (ranges / "README").write_text("not a range")
    assert sorted(digest.hex() for digest in hashes(ranges)) == sorted(digests)
    path = tmp_path / "list"
    write_list(path, hashes(one), 2, 1000)
    lists = PasswordLists([path, tmp_path / "absent"])
    assert lists.has("stolen once again")
    assert not lists.has("stolen never so far")


@pytest.mark.parametrize("line", ["xyz", "a" * 39 + ":1", "a" * 41 + ":1", "a" * 40 + ":-1", "a" * 35 + ":1", "\x00"])
def test_another_file_is_refused_with_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "corpus"
    path.write_text("a" * 40 + ":1\n" + line + "\n")
    with pytest.raises(BadInput, match="line 2"):
        list(hashes(path))
    with pytest.raises(BadInput, match="can't be read"):
        list(hashes(tmp_path / "absent"))


def test_a_broken_list_refuses_rather_than_letting_all_pass(tmp_path: Path) -> None:
    path = tmp_path / "list"
    write_list(path, [sha1("x")], 1, 1000)
    whole = path.read_bytes()
    for broken in (b"", whole[:40], whole[:-1], b"other" + whole[5:], whole[:16] + b"\xff" * 4 + whole[20:]):
        path.write_bytes(broken)
        with pytest.raises(Unavailable, match="can't be read"):
            PasswordLists([path]).has("anything")


def test_a_list_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "list"
    write_list(path, [sha1("old")], 1, 1000)
    with pytest.raises(BadInput):
        write_list(path, [sha1("a"), sha1("b")], 1, 1000)
    with pytest.raises(BadInput):
        write_list(path, [], 1 << 40, 1000)
    assert PasswordLists([path]).has("old")
    assert [entry.name for entry in tmp_path.iterdir()] == ["list"]
