"""Partners' bundles: read strictly, kept over restarts, never an older one, never ours."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workloads.doubles import DOMAIN, MemoryRecorder
from tests.upstream_ca import Ca, make_ca

from rempart.crypto.jose import SigningKey
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Conflict, Integrity, Unauthenticated, Unavailable
from rempart.workloads.federation import Federation, Partner
from rempart.workloads.foreign_bundle import parse_bundle
from rempart.workloads.jwt_authority import claimed_domain, validate_foreign
from rempart.workloads.model import Bundle

PARTNER = "partner.example"
ROOT, OTHER, OURS = make_ca("root", uri=f"spiffe://{PARTNER}"), make_ca("other"), make_ca("ours")
KEY = SigningKey.generate("ES256")


def der(ca: Ca) -> bytes:
    return pem_to_ders(ca.pem())[0]


def x509_key(ca: Ca) -> dict[str, Any]:
    return {"kty": "EC", "crv": "P-384", "use": "x509-svid", "x5c": [base64.b64encode(der(ca)).decode()]}


def jwt_key(key: SigningKey = KEY) -> dict[str, Any]:
    jwk = key.public_jwk()
    return {**{name: jwk[name] for name in ("kty", "crv", "x", "y", "kid")}, "use": "jwt-svid"}


def document(*keys: dict[str, Any], **more: Any) -> str:
    return json.dumps({"keys": list(keys), **more})


def test_a_whole_bundle() -> None:
    text = document(x509_key(ROOT), x509_key(ROOT), jwt_key(), {"kty": "EC", "use": "later"}, spiffe_sequence=7)
    bundle = parse_bundle(text, PARTNER, ours=())
    assert [root.der for root in bundle.roots] == [der(ROOT)]
    assert [key["kid"] for key in bundle.jwt_keys] == [KEY.kid]
    assert (bundle.sequence, bundle.refresh) == (7, 300.0)


def test_what_the_standard_says_to_ignore_is_ignored() -> None:
    """X509-SVID section 6.2: no certificate, and all but the first; JWT-SVID section 2.1: keys for other algorithms."""
    several = {**x509_key(ROOT), "x5c": x509_key(ROOT)["x5c"] + x509_key(OTHER)["x5c"]}
    nothing = {name: value for name, value in x509_key(OTHER).items() if name != "x5c"}
    edwards = {**SigningKey.generate("EdDSA").public_jwk(), "use": "jwt-svid"}
    kinds = ({"kty": "later", "use": "jwt-svid", "kid": "k"}, {"kty": "EC"})
    bundle = parse_bundle(document(several, nothing, {**nothing, "x5c": []}, edwards, *kinds), PARTNER, ours=())
    assert [root.der for root in bundle.roots] == [der(ROOT)]
    assert bundle.jwt_keys == ()
    assert parse_bundle(document(), PARTNER, ours=()).roots == ()  # all keys were revoked (section 4.1.3)


@pytest.mark.parametrize(("typ", "accepted"), [("JWT", True), ("JOSE", True), (None, True), ("at+jwt", False)])
def test_the_type_of_a_token_of_theirs(typ: str | None, accepted: bool) -> None:
    """JWT-SVID section 2.3: optional, and if set one of two."""
    bundle = Bundle(PARTNER, (), ({name: value for name, value in jwt_key().items() if name != "use"},), 1)
    claims = {"sub": f"spiffe://{PARTNER}/x", "aud": "a", "exp": 1000, "iat": 1}
    token = KEY.sign(claims, typ=typ or "JWT")
    if typ is None:
        header = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", "kid": KEY.kid}).encode()).rstrip(b"=").decode()
        payload = token.split(".")[1]
        token = signed(f"{header}.{payload}")
    if accepted:
        assert str(validate_foreign(token, "a", bundle, now=10)[0]) == claims["sub"]
    else:
        with pytest.raises(Unauthenticated):
            validate_foreign(token, "a", bundle, now=10)


def signed(text: str) -> str:
    """By KEY, whatever the header says (RFC 7515 section 5.1)."""
    private = load_jwk(KEY.dump())
    r, s = decode_dss_signature(private.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    signature = base64.urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=").decode()
    return f"{text}.{signature}"


def load_jwk(jwk: dict[str, Any]) -> ec.EllipticCurvePrivateKey:
    secret = base64.urlsafe_b64decode(jwk["d"] + "=" * (-len(jwk["d"]) % 4))
    return ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())


@pytest.mark.parametrize(("hint", "refresh"), [(0, 300.0), (1, 10.0), (60, 60.0), (1 << 40, 86400.0)])
def test_how_often_we_ask_is_bounded(hint: int, refresh: float) -> None:
    assert parse_bundle(document(spiffe_refresh_hint=hint), PARTNER, ours=()).refresh == refresh


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": [1]}',
        '{"keys": [], "keys": []}',
        document(spiffe_sequence="1"),
        document(spiffe_sequence=-1),
        document(spiffe_sequence=True),
        document(spiffe_refresh_hint=1.5),
        document({**x509_key(ROOT), "x5c": "AAAA"}),
        document({**x509_key(ROOT), "x5c": [5]}),
        document({**x509_key(ROOT), "x5c": ["!"]}),
        document({**x509_key(ROOT), "x5c": ["AAAA"]}),
        document(x509_key(make_ca("leaf", is_ca=False))),
        document(x509_key(make_ca("liar", uri=f"spiffe://{DOMAIN}"))),
        document(x509_key(OURS)),
        document({**jwt_key(), "kid": None}),
        document({**jwt_key(), "d": "AAAA"}),
        document(*[jwt_key()] * 65),
        " " * (1 << 20) + "{}",
    ],
)
def test_what_is_no_bundle_of_theirs_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_bundle(text, PARTNER, ours=[Certificate.parse(der(OURS)).fingerprint])
    assert refusal.value.code == "bad_bundle"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_nothing_else_than_a_refusal_comes_of_noise(noise: bytes | str) -> None:
    with pytest.raises(BadInput):
        parse_bundle(noise, PARTNER, ours=())


class Source:
    def __init__(self) -> None:
        self.text = document(x509_key(ROOT), spiffe_sequence=5)
        self.known: list[int] = []

    async def fetch(self, partner: Partner, roots: Sequence[Certificate]) -> bytes:
        self.known.append(len(roots))
        if not self.text:
            raise Unavailable("no_bundle", "nobody answers")
        return self.text.encode()


class World:
    def __init__(self, path: Path, bundle: str = "") -> None:
        self.source, self.recorder, self.announced = Source(), MemoryRecorder(), 0
        self.path, self.bundle = path, bundle
        self.start()

    def start(self, *, ours: Sequence[str] = ()) -> None:
        self.federation = Federation(
            [Partner(PARTNER, "https://partner", bundle=self.bundle)],
            self.source,
            path=self.path / "partners.sealed",
            seal_key=b"k" * 32,
            ours=lambda: ours,
            recorder=self.recorder,
            clock=ManualClock(),
            announce=self._announce,
        )
        self.federation.load()

    def _announce(self) -> None:
        self.announced += 1

    def refresh(self) -> None:
        asyncio.run(self.federation.refresh(PARTNER))

    def sequence(self) -> int | None:
        bundle = self.federation.bundle(PARTNER)
        return bundle.sequence if bundle else None


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_what_was_fetched_is_recorded_kept_and_told_once(world: World) -> None:
    assert world.federation.bundles([PARTNER, "unknown.example"]) == []
    world.refresh()
    world.refresh()
    assert (world.announced, world.recorder.types()) == (1, ["workloads.bundle_changed"])
    world.start()
    assert world.sequence() == 5
    assert world.source.known == [0, 1]


@pytest.mark.parametrize(
    "older",
    [
        document(x509_key(ROOT), spiffe_sequence=4),
        document(x509_key(ROOT)),
        document(x509_key(OTHER), spiffe_sequence=5),
        document(spiffe_sequence=5),
    ],
    ids=["older", "no-sequence", "same-sequence-other-key", "same-sequence-no-key"],
)
def test_no_older_bundle_is_taken_even_after_a_restart(world: World, older: str) -> None:
    world.refresh()
    world.source.text = older
    for _ in range(2):
        with pytest.raises(Conflict) as refusal:
            world.refresh()
        assert refusal.value.code == "bundle_downgrade"
        assert world.sequence() == 5
        world.start()


def test_a_newer_one_is_and_one_by_hand_counts_when_it_is_newer(tmp_path: Path) -> None:
    world = World(tmp_path, document(x509_key(ROOT), spiffe_sequence=3))
    assert world.sequence() == 3
    world.refresh()
    assert world.sequence() == 5
    world.bundle = document(x509_key(OTHER), spiffe_sequence=9)
    world.start()
    assert world.sequence() == 9


def test_what_can_not_be_recorded_is_not_used(world: World) -> None:
    world.recorder.down = True
    with pytest.raises(Unavailable):
        world.refresh()
    assert (world.sequence(), world.announced) == (None, 0)


def test_a_file_that_somebody_changed_stops_the_start(world: World) -> None:
    world.refresh()
    file = world.path / "partners.sealed"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(Integrity):
        world.start()


def test_a_refusal_is_told_once_and_what_is_known_stays(world: World) -> None:
    async def main() -> None:
        for text in ("{}", "{}", "", document(x509_key(ROOT), spiffe_sequence=6)):
            world.source.text = text
            task = asyncio.create_task(world.federation.keep_fresh(PARTNER))
            await asyncio.sleep(0.05)
            task.cancel()

    world.refresh()
    asyncio.run(main())
    refused = [event for event in world.recorder.events if not event.success]
    assert [event.details["code"] for event in refused] == ["bad_bundle", "no_bundle"]
    assert world.sequence() == 6


def test_a_token_of_theirs_is_valid_by_their_keys_for_their_ids_only() -> None:
    bundle = Bundle(PARTNER, (), ({name: value for name, value in jwt_key().items() if name != "use"},), 1)
    claims = {"sub": f"spiffe://{PARTNER}/x", "aud": "a", "exp": 1000, "iat": 1, "iss": "https://them", "role": "admin"}
    token = KEY.sign(claims, typ="JWT")
    assert claimed_domain(token) == PARTNER
    spiffe_id, passed = validate_foreign(token, "a", bundle, now=10)
    assert str(spiffe_id) == f"spiffe://{PARTNER}/x"
    assert "role" not in passed
    ours = KEY.sign({**claims, "sub": f"spiffe://{DOMAIN}/wallet"}, typ="JWT")
    for bad in (ours, SigningKey.generate("ES256").sign(claims, typ="JWT")):
        with pytest.raises(Unauthenticated):
            validate_foreign(bad, "a", bundle, now=10)
    for noise in ("", "a.b.c", token[:-9] + "."):
        assert claimed_domain(noise) in ("", PARTNER)
