"""Which passwords may be set (NIST SP 800-63B-4 section 3.1.1.2): long, and not what everybody tries first.

No rules of composition and no expiry. The list is short because with fifteen characters few common passwords are left:
it has the words that passwords begin with, and what is only made of them, of repetitions or of sequences counts as
common. Ordinary words are not among them: a phrase of several is what we ask for.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Protocol

from rempart.crypto.passwords import MAX_PASSWORD, normalise
from rempart.kernel.errors import BadInput

LEAST_LENGTH = 8  # below this no setting may go
DEFAULT_LENGTH = 15
_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_WORDS = """
password passwort motdepasse contrasena contraseña senha wachtwoord passw0rd p@ssword p@ssw0rd passphrase
admin administrator root user login welcome willkommen bienvenue letmein secret changeme default master access
qwerty qwertz azerty qwertyuiop asdfghjkl zxcvbnm qazwsx 1q2w3e4r 1qaz2wsx q1w2e3r4 abc123 iloveyou monkey dragon
sunshine princess football baseball superman batman trustno1 shadow michael jordan charlie whatever freedom
starwars hello hallo bonjour computer internet samsung google facebook liverpool chelsea arsenal barcelona
summer winter spring autumn guest demo temp correcthorsebatterystaple
"""
_COMMON = frozenset(_WORDS.split())
_PIECES = re.compile(r"[^\W\d_]+|\d+|[\W_]+")
_BETWEEN = re.compile(r"[\W_]+")
_LEET = str.maketrans("@$013457!", "asoleasti")
_RUNS = "abcdefghijklmnopqrstuvwxyz", "0123456789" * 13, "qwertyuiop", "asdfghjkl", "zxcvbnm", "azertyuiop"


class KnownPasswords(Protocol):
    def has(self, password: str) -> bool:
        """Whether it is listed; wrongly yes with the list's own small probability, never wrongly no."""


@dataclass(frozen=True)
class PasswordRules:
    """`least` characters for a password alone, `least_with_factor` beside a second factor; `service`: words of ours.

    `known`: passwords that are common or were breached.
    """

    least: int = DEFAULT_LENGTH
    least_with_factor: int = LEAST_LENGTH
    service: tuple[str, ...] = ()
    known: KnownPasswords | None = None

    def check(self, password: str, *, email: str, name: str, second_factor: bool = False) -> bool:
        """Whether it is a short one, that serves with a second factor only. Raises BadInput `weak_password`."""
        least = min(self.least, self.least_with_factor) if second_factor else self.least
        check_password(password, least=least, context=(email, name, *self.service))
        if self.known is not None and self.known.has(password):
            raise _weak("it is on a list of common or stolen passwords")
        return len(normalise(password)) < self.least

    def generate(self) -> str:
        """24 characters without look-alikes, 139 bits: one that the list doesn't wrongly take for a known one."""
        while True:
            password = "".join(secrets.choice(_ALPHABET) for _ in range(24))
            if self.known is None or not self.known.has(password):
                return password


def check_password(password: str, *, least: int = DEFAULT_LENGTH, context: tuple[str, ...] = ()) -> None:
    """Raises BadInput `weak_password`. `context`: the e-mail address, the name, and what the service is called."""
    text = normalise(password)
    if len(text) < max(least, LEAST_LENGTH):
        raise _weak(f"it has fewer than {max(least, LEAST_LENGTH)} characters")
    if len(password) > MAX_PASSWORD:
        raise _weak(f"it has more than {MAX_PASSWORD} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise _weak("it has control characters")
    lower = text.lower()
    said = [normalise(entry).lower() for entry in context]
    words = {word for entry in said for word in (entry, *re.split(r"[\W_]+", entry)) if len(word) > 3}
    if len(_without(lower, words)) < LEAST_LENGTH - 2:
        raise _weak("it is made of the e-mail address, the name or the service's name")
    if len(set(lower)) < 4 or _repeats(lower) or _is_common(lower) or _is_common(lower.translate(_LEET)):
        raise _weak("it is among the first that anybody would try")


def _weak(why: str) -> BadInput:
    return BadInput(
        "weak_password", f"this password can't be used: {why}", "choose several words that say nothing of you"
    )


def _without(text: str, words: set[str]) -> str:
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, "")
    return text


def _repeats(text: str) -> bool:
    """Whether a piece of up to a third of the text, said again and again, makes it whole."""
    return any(text == (text[:size] * len(text))[: len(text)] for size in range(1, len(text) // 3 + 1))


def _is_common(text: str) -> bool:
    """Nothing but common words, digits in sequence or of a year, runs of the keyboard, and punctuation between."""
    if text in _COMMON or _BETWEEN.sub("", text) in _COMMON:
        return True
    unknown = 0
    for piece in _PIECES.findall(text):
        if piece in _COMMON or not piece.isalnum():
            continue
        if len(piece) > 2 and any(piece in run or piece[::-1] in run for run in _RUNS):
            continue
        if piece.isdigit() and (len(piece) <= 4 or len(set(piece)) < 3):
            continue
        unknown += len(_without(piece, {word for word in _COMMON if len(word) > 3}))
    return unknown < 4
