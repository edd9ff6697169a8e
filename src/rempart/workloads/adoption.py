"""Trust another system of the same trust domain as well, for a time: so that workloads move from it to here.

`GET /adopted` → `{"trust_domain", "adopted": {name: {"roots": [PEM], "keys": [JWK], "until"}}}` ·
`POST /adopted/{name}` with the same · `DELETE /adopted/{name}`. Whose authority is adopted can be anybody here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from rempart.crypto.ca_key import check_authority
from rempart.crypto.jose import Jwks
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, NotFound, RempartError
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.protocols.http_pages import Ask, Page, Route, json_page

from .model import Adopted
from .ports import AdoptingStore

MAX_DAYS = 90
MAX_KEYS = 32
"""Roots and JWT keys of all that is adopted: agents and partners take bundles of `foreign_bundle.MAX_KEYS`."""
MAX_BYTES = 1 << 19
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True)
class Adoption:
    trust_domain: str
    store: AdoptingStore
    recorder: Recorder
    clock: Clock
    announce: Callable[[], None]
    operator: str

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/adopted", self.show),
            Route("POST", "/adopted/{}", self.adopt),
            Route("DELETE", "/adopted/{}", self.disown),
        ]

    async def show(self, ask: Ask) -> Page:
        return json_page(self._shown())

    async def adopt(self, ask: Ask, name: str) -> Page:
        _check_name(name)
        what = self._checked(await ask.body(MAX_BYTES, code="bad_adoption"))
        others = [one for known, one in self.store.adopted().items() if known != name]
        if sum(map(_size, (what, *others))) > MAX_KEYS:
            raise BadInput("bad_adoption", f"there would be more than {MAX_KEYS} roots and keys of others")
        if self.store.adopted().get(name) != what:
            prints = [Certificate.parse(der).fingerprint for pem in what.roots for der in pem_to_ders(pem)]
            kids = [key["kid"] for key in what.keys]
            about = {"adopted": name, "roots": prints, "jwt_keys": kids, "until": what.until}
            await self._record(f"the authorities of {name} are trusted, too", about)
            await self.store.adopt(name, what)
            self.announce()
        return json_page(self._shown())

    async def disown(self, ask: Ask, name: str) -> Page:
        _check_name(name)
        if name not in self.store.adopted():
            raise NotFound("not_adopted", f"nothing was adopted as {name!r}", "see `rempart migrate spire --help`")
        await self._record(f"the authorities of {name} are trusted no more", {"adopted": name, "roots": []})
        await self.store.disown(name)
        self.announce()
        return json_page(self._shown())

    def _shown(self) -> dict[str, object]:
        adopted = {name: msgspec.to_builtins(one) for name, one in self.store.adopted().items()}
        return {"trust_domain": self.trust_domain, "adopted": adopted}

    def _checked(self, body: bytes) -> Adopted:
        """Certificates of authorities, none of another trust domain; keys that JWTs can be verified by."""
        try:
            what = msgspec.json.decode(body, type=Adopted)
        except msgspec.DecodeError as error:
            raise BadInput("bad_adoption", f"this is no set of authorities: {error}") from None
        if not 0 < what.until - self.clock.now() <= MAX_DAYS * 86400:
            raise BadInput("bad_adoption", f"others are trusted for up to {MAX_DAYS} days")
        if not what.roots:
            raise BadInput("bad_adoption", "there are no roots")
        try:
            for pem in what.roots:
                for der in pem_to_ders(pem):
                    check_authority(der, self.trust_domain)
            Jwks.parse({"keys": what.keys})
            if not all(key["kid"] for key in what.keys):
                raise BadInput("bad_adoption", "a key has no id")
        except (RempartError, KeyError) as error:
            why = error.reason if isinstance(error, RempartError) else "a key has no id"
            raise BadInput("bad_adoption", why) from None
        return what

    async def _record(self, reason: str, after: dict[str, object]) -> None:
        await self.recorder.record(
            Event(
                type=EventType.BUNDLE_CHANGED,
                at=self.clock.now(),
                success=True,
                severity=Severity.HIGH,
                operator=self.operator,
                service="identity",
                reason=reason,
                after={"trust_domain": self.trust_domain, **after},
            )
        )


def _check_name(name: str) -> None:
    if not 0 < len(name) <= 32 or not set(name) <= _NAME_CHARACTERS:
        raise BadInput("bad_adoption", "a name is up to 32 small letters, digits and dashes")


def _size(what: Adopted) -> int:
    return sum(len(pem_to_ders(pem)) for pem in what.roots) + len(what.keys)
