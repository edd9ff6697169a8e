"""Malformed headers and bodies at every endpoint: an answer below 500, and no traceback, whatever comes."""

from __future__ import annotations

import base64
import json

import pytest
from tests.probe.kit import CALLBACK, DEVICE, EXCHANGE, SECRET, Idp, source

from rempart.attack.wire import Address, NoAnswer, Reply, ask

FORM = "application/x-www-form-urlencoded"
BASIC = "Basic " + base64.b64encode(f"p-web:{SECRET}".encode()).decode()
POSTS = {
    "/auth/token": "grant_type=client_credentials",
    "/auth/token#code": f"grant_type=authorization_code&code=x&redirect_uri={CALLBACK}&code_verifier={'a' * 43}",
    "/auth/token#device": f"grant_type={DEVICE}&device_code=x",
    "/auth/token#exchange": f"grant_type={EXCHANGE}&subject_token=x&subject_token_type=y",
    "revocation_endpoint": "token=x",
    "introspection_endpoint": "token=x",
    "pushed_authorization_request_endpoint": "response_type=code&client_id=p-web",
    "device_authorization_endpoint": "client_id=p-tv",
    "authorization_endpoint": "response_type=code&client_id=p-web",
    "end_session_endpoint": "id_token_hint=x",
    "userinfo_endpoint": "access_token=x",
    "/auth/sign-in": "email=a&password=b",
    "/auth/device": "user_code=ABCD-EFGH",
    "/auth/forgot": "email=a",
}
GETS = (
    "authorization_endpoint",
    "end_session_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "/auth/.well-known/openid-configuration",
    "/auth/sign-in",
    "/auth/device",
    "/auth/account",
    "/auth/reset",
    "/auth/invitation",
    "/auth/nothing-here",
)


def path(idp: Idp, name: str) -> str:
    name = name.partition("#")[0]
    return name if name.startswith("/") else idp.endpoint(name).removeprefix(idp.bank.url)


def send(idp: Idp, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None = None) -> Reply:
    port = int(idp.bank.url.rpartition(":")[2])
    try:
        return ask(Address("127.0.0.1", port), idp.tls, method, target, headers, body, source=source())
    except NoAnswer:
        return Reply(400)  # closed without an answer: the request was no HTTP


def fine(reply: Reply, what: object = "") -> None:
    assert reply.status < 500, (what, reply.status, reply.headers, reply.body[:600])
    assert b"Traceback" not in reply.body, what


BODIES: dict[str, bytes] = {
    "empty": b"",
    "nul": b"\x00",
    "not-utf8": b"grant_type=\xff\xfe&client_id=\xc3\x28",
    "bad-percent": b"grant_type=%&client_id=%zz&code=%u0041",
    "percent-nul": b"grant_type=%00&client_id=%00&token=%00&email=%00",
    "surrogate": b"grant_type=%ED%A0%80&client_id=%ED%A0%80&token=%ED%A0%80&user_code=%ED%A0%80&email=%ED%A0%80",
    "json": b'{"grant_type":"client_credentials"}',
    "list": b"[]",
    "multipart": b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\nx\r\n--x--\r\n',
    "many-fields": b"&".join(b"f%d=1" % number for number in range(2000)),
    "one-name-many-times": b"client_id=p-web&" * 500,
    "large": b"token=" + b"a" * 200_000,
    "deep": b"claims=" + b"[" * 9000,
    "brackets": b"client_id[]=p-web&token[a][b]=x&grant_type[$ne]=x",
    "semicolons": b"client_id=p-web;token=x",
    "only-marks": b"&&&===&=&",
    "huge-numbers": b"max_age=1e999&expires_in=-1&token=99999999999999999999999999",
    "crlf": b"client_id=p-web%0d%0aSet-Cookie:%20a=b&redirect_uri=%0d%0aLocation:%20https://evil.example&state=%0d%0a",
}


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("body", BODIES)
def test_a_malformed_body_is_answered_as_the_clients_fault(idp: Idp, name: str, body: str) -> None:
    for headers in ([("content-type", FORM)], [("content-type", FORM), ("authorization", BASIC)]):
        reply = send(idp, "POST", path(idp, name), headers, BODIES[body])
        fine(reply, (name, body))
        assert "set-cookie" not in reply.headers or "a=b" not in reply.headers["set-cookie"]


HEADERS: dict[str, list[tuple[str, str]]] = {
    "no-content-type": [],
    "text": [("content-type", "text/plain")],
    "charset": [("content-type", f"{FORM}; charset=utf-16")],
    "charset-nonsense": [("content-type", f"{FORM}; charset=\x01bananas")],
    "multipart": [("content-type", "multipart/form-data")],
    "multipart-boundary": [("content-type", "multipart/form-data; boundary=" + "x" * 500)],
    "content-type-twice": [("content-type", FORM), ("content-type", "application/json")],
    "content-type-latin": [("content-type", "application/\xff")],
    "gzip-that-is-none": [("content-type", FORM), ("content-encoding", "gzip")],
    "expect": [("content-type", FORM), ("expect", "bananas")],
    "range": [("content-type", FORM), ("range", "bytes=0-0,-1,9-2")],
    "if-none-match": [("content-type", FORM), ("if-none-match", '"' + "x" * 4000)],
    "accept-language": [("content-type", FORM), ("accept-language", "fr;q=bananas,,;;=,x-" + "y" * 3000)],
    "accept-nonsense": [("content-type", FORM), ("accept", "/;q=\x7f")],
    "cookie-nonsense": [
        ("content-type", FORM),
        ("cookie", '=;;; __Host-rempart-session; __Host-rempart-session=\xff\xfe; a="'),
    ],
    "cookie-huge": [("content-type", FORM), ("cookie", "__Host-rempart-session=" + "A" * 7000)],
    "cookie-planted": [
        ("content-type", FORM),
        ("cookie", "__Host-rempart-session=x.y.z; __Host-rempart-step=x; __Host-rempart-form=%00"),
    ],
    "cookies-twice": [("content-type", FORM), ("cookie", "__Host-rempart-session=a; __Host-rempart-session=b")],
    "authorization-empty": [("content-type", FORM), ("authorization", "")],
    "authorization-odd": [("content-type", FORM), ("authorization", "Bearer \xff\xfe")],
    "authorization-dpop": [("content-type", FORM), ("authorization", "DPoP x"), ("dpop", "y")],
    "authorization-basic-odd": [("content-type", FORM), ("authorization", "Basic \xe9===:")],
    "authorization-long": [("content-type", FORM), ("authorization", "Bearer " + "A." * 3000)],
    "dpop-twice": [("content-type", FORM), ("dpop", "a.b.c"), ("dpop", "a.b.c")],
    "dpop-json": [("content-type", FORM), ("dpop", "e30.e30.e30")],
    "dpop-latin": [("content-type", FORM), ("dpop", "\xff.\xff.\xff")],
    "origin-odd": [("content-type", FORM), ("origin", "http://[::1")],
    "referer-odd": [("content-type", FORM), ("referer", "http://[")],
    "forwarded": [("content-type", FORM), ("x-forwarded-for", "bananas"), ("forwarded", 'for="[::1"')],
    "identity": [("content-type", FORM), ("x-spiffe-id", "spiffe://bank.example/users"), ("x-rempart-subject", "x")],
    "traceparent": [("content-type", FORM), ("traceparent", "00-zz-zz-00")],
    "user-agent": [("content-type", FORM), ("user-agent", "\xff\x80" * 900)],
    "request-id": [("content-type", FORM), ("x-request-id", "\"'<>\\" * 40)],
    "host-odd": [("content-type", FORM), ("host", "evil.example")],
    "method-override": [("content-type", FORM), ("x-http-method-override", "DELETE")],
}


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("headers", HEADERS)
def test_malformed_headers_are_answered_as_the_clients_fault(idp: Idp, name: str, headers: str) -> None:
    fine(send(idp, "POST", path(idp, name), HEADERS[headers], POSTS[name].encode()), (name, headers))


def test_as_many_headers_as_the_gateway_takes_reach_a_service(idp: Idp) -> None:
    """Each Envoy adds its own: what the first lets in must not be too much for the next."""
    login = idp.ask("POST", "/login", json={name: idp.person[name] for name in ("email", "password")}).json()
    proof = ("authorization", f"Bearer {login['access_token']}")
    crowds = [[(f"x-a{n}", "a") for n in range(many)] for many in (70, 80, 84, 88, 90, 92, 94, 95, 96, 99, 110)]
    crowds += [[("x-a", "a" * size)] for size in (30_000, 31_600, 31_900, 32_100, 32_300, 32_500, 33_000)]
    for target in ("/auth/jwks.json", f"/wallet?user_id={idp.person['user_id']}"):
        for crowd in crowds:
            reply = send(idp, "GET", target, [proof, *crowd])
            assert reply.status in (200, 431), (target, len(crowd), len(crowd[0][1]), reply.status, reply.body[:300])
        assert send(idp, "GET", target, [proof, *crowds[1]]).status == 200


@pytest.mark.parametrize("name", GETS)
def test_malformed_headers_on_what_is_read(idp: Idp, name: str) -> None:
    for headers in HEADERS.values():
        fine(send(idp, "GET", path(idp, name), headers), (name, headers))


QUERIES = (
    "?",
    "?&&==&",
    "?a=%00",
    "?a=%ff",
    "?a=%ED%A0%80",
    "?client_id=%00&redirect_uri=%00",
    "?" + "a=1&" * 900,
    "?token=" + "x" * 7000,
    "?interaction=%00",
    "?interaction=../../x",
    "?interaction[]=x",
    "?user_code=%F0%9F%92%A9",
    "?user_code=" + "A" * 3000,
    "?lang=%00",
    "?next=%00",
    "?logout=%ff",
    "?id_token_hint=%00",
    "?state=" + "%0d%0a" * 50,
    "?code=1&code=2",
    "?lang=fr&lang=en",
)


@pytest.mark.parametrize(
    "name",
    [
        *GETS,
        "/auth/consent",
        "/auth/sign-out",
        "/auth/sign-in/factor",
        "/auth/account/security",
        "/auth/account/sessions",
    ],
)
def test_malformed_queries(idp: Idp, name: str) -> None:
    for query in QUERIES:
        fine(send(idp, "GET", path(idp, name) + query, []), (name, query))


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BREW", "get"]
)
def test_odd_methods(idp: Idp, method: str) -> None:
    for name in {*POSTS, *GETS}:
        fine(
            send(idp, method, path(idp, name), [], b"" if method in ("POST", "PUT", "PATCH") else None), (method, name)
        )


SEGMENTS = (
    "/auth",
    "/auth/",
    "/auth//token",
    "/auth/%74oken",
    "/auth/token/",
    "/auth/token/x",
    "/auth/..%2ftoken",
    "/auth/%00",
    "/auth/%ff",
    "/auth/é",
    "/auth/.well-known",
    "/auth/.well-known/",
    "/auth/account/../token",
    "/auth/static/../../etc/passwd",
    "/auth/static/%2e%2e/x",
    "/auth/static/nothing.css",
    "/auth/token;x=y",
    "/auth/TOKEN",
    "/auth/" + "a" * 6000,
    "/auth/{id}",
    "/.well-known/oauth-authorization-server/auth/x",
    "/auth/scim/v2/Users",
    "/auth/scim/v2/Users/",
    "/auth/scim/v2/",
    "/auth/scim/v2",
    "/auth/scim/v2/Users/%00",
    "/auth/admin",
    "/auth/admin/users",
    "/auth/register",
)


@pytest.mark.parametrize("target", SEGMENTS)
def test_odd_paths(idp: Idp, target: str) -> None:
    for method in ("GET", "POST", "DELETE", "PATCH"):
        reply = send(idp, method, target, [("content-type", "application/json")], b"{}" if method != "GET" else None)
        fine(reply, (method, target))
        assert b"root:" not in reply.body
        assert not reply.headers.get("location", "").startswith("http:")


JSON_BODIES = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"1e999",
    b"[" * 5000,
    b'{"a":' * 3000,
    b'{"email":1,"password":[]}',
    b'{"email":"a","email":"b"}',
    b'{"email":"\\ud800","password":"\\udfff"}',
    b'{"email":"' + b"a" * 30000 + b'"}',
    b"\xff\xfe",
    b'{"__proto__":{}}',
    b'{"password":"\\u0000"}',
)


@pytest.mark.parametrize(
    "target",
    [
        "/login",
        "/auth/scim/v2/Users",
        "/auth/scim/v2/Bulk",
        "/auth/passkey/options",
        "/auth/passkeys/options",
        "/auth/register",
    ],
)
def test_malformed_json(idp: Idp, target: str) -> None:
    for body in JSON_BODIES:
        for kind in ("application/json", "application/scim+json"):
            fine(send(idp, "POST", target, [("content-type", kind)], body), (target, body[:30]))


def test_every_refusal_of_an_oauth_endpoint_reads_as_oauth_says(idp: Idp) -> None:
    """RFC 6749 section 5.2: JSON with `error` of printable ASCII, not cached."""
    for name, body in POSTS.items():
        if name.startswith("/auth/token") or name in (
            "revocation_endpoint",
            "introspection_endpoint",
            "pushed_authorization_request_endpoint",
            "device_authorization_endpoint",
        ):
            reply = send(idp, "POST", path(idp, name), [("content-type", FORM)], body.encode() + b"&x=%C3%A9%22%5C")
            if reply.status >= 400:
                document = json.loads(reply.body)
                assert all(
                    0x20 <= ord(c) <= 0x7E and c not in '"\\'
                    for c in document["error"] + document.get("error_description", "")
                ), document
                assert reply.headers["cache-control"] == "no-store"
                assert reply.headers["content-type"].startswith("application/json")


def test_the_process_is_the_one_that_was_there_before(idp: Idp) -> None:
    assert all(one["ready"] and one["restarts"] == 0 for one in idp.bank.now()["processes"])
