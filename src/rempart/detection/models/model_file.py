"""Model files: a signed header (c2sp.org/signed-note, Ed25519), then the model as JSON. Numbers only; nothing runs.

```
rempart-model/v1
subject logins
serial 12
features SHA-256          of the features' names, bounds and meanings
body 401223 SHA-256       bytes that follow the signature, and their digest

— bank.example/rempart/models BASE64
{"subject": …}
```
A file is believed when the models process's own key signed it, it is whole, it was made for these features, and its
serial is not below the newest one that the record knows (`models.trained`).
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from rempart.crypto.signing import NoteSigner, NoteVerifier
from rempart.kernel.errors import BadInput, Integrity

from .model import Features, Level, Rating, Row, Subject, digest_of
from .trained import Trained

MAX_BYTES = 64 << 20
_FIRST = "rempart-model/v1"
_HEADER = re.compile(
    r"rempart-model/v1\nsubject ([a-z]{1,32})\nserial ([0-9]{1,12})\n"
    r"features ([0-9a-f]{64})\nbody ([0-9]{1,9}) ([0-9a-f]{64})\n"
)
_TRAIN = "`rempart models train` makes a new one"
_MAX_HEADER = 2048


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    serial: int
    trained_at: float
    features: list[str]
    left_out: dict[str, int]
    model: Trained


class SignedModel:
    """A model that was verified. `digest` is the file's SHA-256, as `models.trained` has it in the record."""

    def __init__(self, body: Body, features: Features, digest: str, size: int) -> None:
        self.body, self.features, self.digest, self.size = body, features, digest, size
        self.subject = body.model.subject
        self.name = f"{self.subject.value}-{body.serial}"

    def rate(self, row: Row) -> Rating:
        model = self.body.model
        raw, share, level, pooled = model.rate(row)
        reasons = model.reasons(row, self.features) if level is not Level.LOW else ()
        return Rating(
            self.subject, row.principal, row.at, row.id, round(share, 5), raw, level, self.name, reasons, pooled
        )


def write_model(body: Body, features: Features, signer: NoteSigner) -> bytes:
    raw = msgspec.json.encode(body)
    lines = (
        _FIRST,
        f"subject {body.model.subject.value}",
        f"serial {body.serial}",
        f"features {digest_of(features)}",
        f"body {len(raw)} {hashlib.sha256(raw).hexdigest()}",
    )
    return signer.sign("".join(f"{line}\n" for line in lines)).encode() + raw


def read_model(
    content: bytes, subject: Subject, features: Features, verifier: NoteVerifier, *, at_least: int = 0
) -> SignedModel:
    """Raises Integrity `not_a_model`, `model_foreign`, `model_truncated`, `model_tampered`, `model_older`,
    `model_other_features`, `model_malformed`; nothing of the body is looked at before its signature holds."""
    text, signature, raw = _split(content)
    note = f"{text}\n{signature}"
    header = _HEADER.fullmatch(text)
    if header is None:
        raise Integrity("not_a_model", "the file has no header of a model", _TRAIN)
    try:
        verifier.verify(note)
    except (Integrity, BadInput):
        named = f"{verifier.name} " in signature
        if named:
            why = "the header was changed, or signed with another key under the same name"
            raise Integrity("model_tampered", why, _TRAIN) from None
        raise Integrity("model_foreign", f"it is not signed by {verifier.name}", _TRAIN) from None
    if header[1] != subject.value:
        raise Integrity("model_foreign", f"it is a model of {header[1]}, not of {subject.value}", _TRAIN)
    if len(raw) != int(header[4]):
        raise Integrity("model_truncated", f"it has {len(raw)} bytes of {header[4]}", _TRAIN)
    if hashlib.sha256(raw).hexdigest() != header[5]:
        raise Integrity("model_tampered", "its content is not what was signed", _TRAIN)
    if int(header[2]) < at_least:
        raise Integrity("model_older", f"it is number {header[2]}, the record knows number {at_least}", _TRAIN)
    if header[3] != digest_of(features):
        raise Integrity("model_other_features", "it was made for other features than this version has", _TRAIN)
    try:
        body = msgspec.json.decode(raw, type=Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Integrity("model_malformed", "the model is not whole: its content makes no sense", _TRAIN) from None
    body.model.check(features)
    if body.model.subject != subject or body.serial != int(header[2]):
        raise Integrity("model_malformed", "header and content name different models", _TRAIN)
    return SignedModel(body, features, hashlib.sha256(content).hexdigest(), len(content))


def _split(content: bytes) -> tuple[str, str, bytes]:
    """Header, signature line, body."""
    if len(content) > MAX_BYTES:
        raise Integrity("not_a_model", f"the file is larger than {MAX_BYTES} bytes", _TRAIN)
    if content[:1] == b"\x80" or content[:2] == b"PK" or not content.startswith(_FIRST.encode() + b"\n"):
        raise Integrity("not_a_model", "it is no model of Rempart (pickles and archives are never opened)", _TRAIN)
    gap = content.find(b"\n\n", 0, _MAX_HEADER)
    end = content.find(b"\n", gap + 2, gap + 2 + _MAX_HEADER)
    if gap < 0 or end < 0:
        raise Integrity("model_truncated", "the file ends within its header", _TRAIN)
    try:
        return content[: gap + 1].decode(), content[gap + 2 : end + 1].decode(), content[end + 1 :]
    except UnicodeDecodeError:
        raise Integrity("not_a_model", "the header is no text", _TRAIN) from None
