"""Personal data in the log: encrypted under a key of each person's own, so that destroying the key erases them.

The log can't forget: a changed entry would break the tree. So what says something about a person besides their id
(`protocols.event_catalogue.PERSONAL`) is taken out of an event when it is integrated, and stands in it as
`unmapped.rempart.sealed`: person's id → base64 of what `crypto.aead.seal` made. Who reads the log through the
sequencer gets the event as it was recorded; what is proved, and what lies on disk, is the sealed one. Once the key is
destroyed nobody can read it, every hash stays what it was, and no key is ever made for that id again.

One box serves all events in which the same person has the same values (an address, a browser): that they are the same
can be seen, not what they are. Events without a person keep what they have (a refused handshake's address).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from rempart.crypto.aead import seal, unseal
from rempart.kernel.errors import Integrity
from rempart.kernel.event import EventType
from rempart.protocols.event_catalogue import CATALOGUE, PERSONAL
from rempart.protocols.ocsf import MAX_BYTES

_CONTEXT = b"rempart/audit/personal/"
_DESCRIBED = frozenset(str(kind.type) for kind in CATALOGUE.values() if "before" in kind.personal)  # before, after
_REMEMBERED = 8192  # boxes
_ERASED = str(EventType.PERSON_ERASED)
_encode = msgspec.json.Encoder(order="deterministic").encode
_encode_as_is = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class PersonKeys(Protocol):
    """One 32-byte key for each person. One writer, one thread. All raise Unavailable `person_keys_unavailable`."""

    def provide(self, person: str) -> bytes | None:
        """Made where there was none, durable after `commit`. None when it was destroyed."""

    def find(self, person: str) -> bytes | None:
        """None when it was destroyed or never made."""

    def destroy(self, person: str) -> None:
        """For good, also one that was never made. Durable after `commit`."""

    def commit(self) -> None: ...

    @property
    def destroyed(self) -> int:
        """How many were."""


class PersonalData:
    """Seals what goes into the log and opens what comes out."""

    def __init__(self, keys: PersonKeys, erasers: frozenset[str] = frozenset(("people", "sequencer"))) -> None:
        """`erasers`: the processes whose word it is that somebody was erased."""
        self.keys = keys
        self._erasers = erasers
        self._box = lru_cache(_REMEMBERED)(self._make_box)
        self._inside = lru_cache(_REMEMBERED)(self._open_box)

    def seal(self, entries: Iterable[bytes]) -> list[bytes]:
        """The entries as the log has them. An event that says that somebody was erased destroys their key first."""
        sealed = [self._seal(one) if b'"person":' in one or b'"account":' in one else one for one in entries]
        self.keys.commit()  # before the log is: what nobody could open must not be in it
        return sealed

    def open(self, entry: bytes) -> bytes:
        """The event as it was recorded, without what belonged to persons who were erased."""
        if b'"sealed":{' not in entry:
            return entry
        document = _decode(entry)
        own = document["unmapped"]["rempart"]
        boxes = own.get("sealed")
        if not isinstance(boxes, dict):
            return entry
        for person, box in boxes.items():
            if isinstance(box, str) and (inside := self._inside(person, box)) is not None:
                _merge(own, _decode(inside))
        del own["sealed"]
        if own.get("ip") and "src_endpoint" in document:
            document["src_endpoint"] = {"ip": own["ip"]}
        return msgspec.json.encode(document)

    def erase(self, person: str) -> None:
        self.keys.destroy(person)
        self.keys.commit()
        self._box.cache_clear()
        self._inside.cache_clear()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _seal(self, entry: bytes) -> bytes:
        try:
            return self._without_personal(entry)
        except (KeyError, TypeError, ValueError, RecursionError):
            return entry  # no event that `ocsf.encode` made: kept as its process wrote it

    def _without_personal(self, entry: bytes) -> bytes:
        document = _decode(entry)
        own = document["unmapped"]["rempart"]
        details = own.get("details")
        account = details.get("account") if isinstance(details, dict) else None
        actor, kind = own.get("person"), own["type"]
        if kind == _ERASED and own["source"] in self._erasers and isinstance(account, str):
            self.erase(account)
        parts: dict[str, dict[str, Any]] = {}
        if kind in _DESCRIBED:
            subject = account if isinstance(account, str) and account.startswith("usr_") else actor
            if isinstance(subject, str):
                for name in ("before", "after"):
                    _move(own, name, parts.setdefault(subject, {}))
        if isinstance(actor, str):
            personal = parts.setdefault(actor, {})
            if "ip" in own:
                personal["ip"] = own.pop("ip")
                if "src_endpoint" in document:
                    document["src_endpoint"] = {"svc_name": own["source"]}
            _move(own, "details", personal)
        boxes = {}
        for person, part in parts.items():
            if part and (box := self._box(person, _encode(part))):
                boxes[person] = box
        if boxes:
            own["sealed"] = boxes
        elif not any(parts.values()):
            return entry
        sealed = _encode_as_is(document)
        if len(sealed) > MAX_BYTES:
            del own["sealed"]
            own["truncated"] = True
            sealed = _encode_as_is(document)
        return sealed

    def _make_box(self, person: str, inside: bytes) -> str:
        """Empty for somebody who was erased: nothing of them is kept any more."""
        key = self.keys.provide(person)
        return base64.b64encode(seal(key, inside, _CONTEXT + person.encode())).decode() if key else ""

    def _open_box(self, person: str, box: str) -> bytes | None:
        key = self.keys.find(person)
        if key is None:
            return None
        try:
            return unseal(key, base64.b64decode(box, validate=True), _CONTEXT + person.encode())
        except (Integrity, binascii.Error):
            return None  # not a box of ours: an application may name a field of its own `sealed`


def _move(parent: dict[str, Any], name: str, personal: dict[str, Any]) -> None:
    """Take what is personal out of the object `parent[name]`, at any depth, into `personal[name]`."""
    value = parent.get(name)
    if isinstance(value, dict) and (taken := _take(value)):
        personal[name] = taken


def _take(value: dict[str, Any]) -> dict[str, Any]:
    taken: dict[str, Any] = {}
    names: list[str] = []
    for key, inside in value.items():
        if key in PERSONAL:
            taken[key] = inside
            names.append(key)
        elif type(inside) is dict and (deeper := _take(inside)):
            taken[key] = deeper
    for key in names:
        del value[key]
    return taken


def _merge(into: dict[str, Any], part: Mapping[str, Any]) -> None:
    for name, value in part.items():
        there = into.get(name)
        if isinstance(there, dict) and isinstance(value, dict):
            _merge(there, value)
        else:
            into.setdefault(name, value)
