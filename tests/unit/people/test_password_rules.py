"""Length, and nothing that anybody tries first."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.kernel.errors import BadInput
from rempart.people.password_rules import PasswordRules, check_password

CONTEXT = ("alice.liddell@bank.example", "Alice Liddell", "bank.example")


@pytest.mark.parametrize(
    "password",
    ["a quiet river of glass 42", "glissant sous la lune rousse", "9f8e7d6c5b4a3f2e", "тихая река из стекла",
     "correct horse battery staple 9", "this is a long passphrase", "a-very-long-test-password",
     "kein Fahrrad im Keller!", "x" * 5 + " marmalade kettle"],
)  # fmt: skip
def test_long_and_unexpected_is_fine_whatever_it_is_made_of(password: str) -> None:
    check_password(password, context=CONTEXT)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("short but odd!", "fewer than 15"),
        ("y" * 129, "more than 128"),
        ("a quiet river\x00of glass", "control"),
        ("passwordpassword", "first"),
        ("P@ssw0rdP@ssw0rd", "first"),
        ("password12345678", "first"),
        ("qwertyuiopasdfghjkl", "first"),
        ("12345678901234567890", "first"),
        ("aaaaaaaaaaaaaaaaaa", "first"),
        ("abcabcabcabcabcabc", "first"),
        ("correct horse battery staple", "first"),
        ("letmein-welcome-2024", "first"),
        ("alice.liddell@bank.example", "made of"),
        ("LiddellAliceBank!", "made of"),
    ],
)
def test_what_is_tried_first_is_refused_with_the_reason(password: str, why: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_password(password, context=CONTEXT)
    assert refusal.value.code == "weak_password"
    assert why in refusal.value.reason
    assert password not in refusal.value.reason


def test_no_setting_goes_below_eight() -> None:
    check_password("mxq7vfkd", least=8)
    with pytest.raises(BadInput):
        check_password("mxq7vfk", least=1)


def test_generated_ones_always_pass() -> None:
    made = {PasswordRules().generate() for _ in range(200)}
    assert len(made) == 200
    for password in made:
        check_password(password, context=CONTEXT)


def test_a_generated_one_is_none_that_the_list_takes_for_a_known_one() -> None:
    """It is wrongly sure of one in some ten thousand, and nobody chose the password that they were given."""

    asked: list[str] = []

    class SureOfTheFirst:
        def has(self, password: str) -> bool:
            asked.append(password)
            return len(asked) == 1

    rules = PasswordRules(known=SureOfTheFirst())
    made = rules.generate()
    assert asked[1:] == [made]
    assert made != asked[0]
    assert not rules.check(made, email="alice@bank.example", name="Alice")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_judged(password: str) -> None:
    with contextlib.suppress(BadInput):
        check_password(password, context=CONTEXT)
