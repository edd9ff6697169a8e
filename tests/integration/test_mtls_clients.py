"""Programs outside the mesh that prove themselves by a certificate (RFC 8705), at the gateway's entrance for them."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.integration.conftest import Running, running, write_tiny
from tests.support import eventually, short_directory

SETTINGS = """
[app]
name = "tiny"
trust_domain = "tiny.example"

[gateway]
mtls_listen = "127.0.0.1:{port}"
mtls_client_ca = "partners.pem"
names = ["www.tiny.example"]

[[service]]
name = "hello"
command = ["python", "hello.py"]
socket = "app.sock"
routes = ["/hello"]

[policy]
path = "policy"
scoped_tokens = true
"""
POLICY = """
package authz

import rego.v1

decision := {"allow": true, "rule": "hello.read", "reason": "scope read"} if {
	"read" in split(input.jwt.scope, " ")
} else := {"allow": false, "rule": "hello.denied", "code": "forbidden", "reason": "no scope", "status": 403}
"""


@dataclass
class Held:
    """A certificate with its key, as files."""

    certificate: Path
    key: Path
    pem: str


class Authority:
    """A root, or one below `above`, whose clients bring its certificate along."""

    def __init__(self, directory: Path, name: str, above: Authority | None = None) -> None:
        self._directory, self._name = directory, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key, self._above = ec.generate_private_key(ec.SECP256R1()), above
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        signer = above or self
        self.certificate = signer._sign(self._name, self._key, x509.BasicConstraints(True, None), usage)
        self.pem = self.certificate.public_bytes(Encoding.PEM)

    def issue(self, name: str, *extensions: x509.ExtensionType, days: int = 1) -> Held:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        held = write(self._directory / name, self._sign(subject, key, *extensions, days=days), key)
        if self._above:
            held.certificate.write_bytes(held.pem.encode() + self.pem)
        return held

    def revoke(self, *revoked: x509.Certificate) -> Path:
        """Its list, as a file."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(now - datetime.timedelta(hours=1)).next_update(now + datetime.timedelta(days=1))
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        file = self._directory / "revoked.crl"
        file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return file

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType, days: int = 1
    ) -> x509.Certificate:
        return sign(subject, self._name, key, self._key, *extensions, days=days)


def sign(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    *extensions: x509.ExtensionType,
    days: int = 1,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    ends = now + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_after(ends)
    builder = builder.not_valid_before(min(now, ends) - datetime.timedelta(hours=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(by, hashes.SHA256())


def write(base: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Held:
    files = base.with_suffix(".pem"), base.with_suffix(".key")
    pem = certificate.public_bytes(Encoding.PEM)
    files[0].write_bytes(pem)
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Held(*files, pem.decode())


def self_signed(directory: Path, name: str) -> Held:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return write(directory / name, sign(subject, subject, key, key), key)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Partners:
    system: Running
    entrance: str
    directory: Path
    authority: Authority

    def http(self, held: Held | None, base: str | None = None) -> httpx.Client:
        context = ssl.create_default_context(cafile=self.system.ca)
        if held is not None:
            context.load_cert_chain(held.certificate, held.key)
        return httpx.Client(base_url=base or self.entrance, verify=context, timeout=10)

    def add(self, client: str, *options: str) -> None:
        scopes = ("--grant", "client_credentials", "--scope", "read", "--mtls-bound", "--json")
        made = self.system.run("client", "add", client, *options, *scopes)
        assert made.returncode == 0, made.stderr

    def token(self, client: str, held: Held | None, base: str | None = None, **headers: str) -> httpx.Response:
        with self.http(held, base) as http:
            form = {"grant_type": "client_credentials", "client_id": client, "scope": "read"}
            return http.post("/auth/token", data=form, headers=headers)

    def hello(self, token: str, held: Held | None, base: str | None = None, **headers: str) -> httpx.Response:
        with self.http(held, base) as http:
            return http.get("/hello", headers={"authorization": f"Bearer {token}", **headers})


@pytest.fixture(scope="module")
def partners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partners]:
    keys = tmp_path_factory.mktemp("keys")
    authority, port = Authority(keys, "Partners CA"), free_port()
    with short_directory("rt") as directory:
        app = write_tiny(directory / "app", SETTINGS.format(port=port))
        (app / "partners.pem").write_bytes(authority.pem)
        (app / "policy").mkdir()
        (app / "policy" / "authz.rego").write_text(POLICY)
        with running(app) as up:
            yield Partners(up, f"https://localhost:{port}", keys, authority)


def refused(answer: httpx.Response, code: str = "invalid_client") -> bool:
    assert answer.status_code == 401, answer.text
    assert code in (answer.json().get("error"), answer.json().get("code"))
    return True


def test_a_self_signed_certificate_proves_the_client_and_binds_its_tokens(partners: Partners) -> None:
    own, other = self_signed(partners.directory, "own"), self_signed(partners.directory, "other")
    partners.add("self", "--cert", str(own.certificate))
    issued = partners.token("self", own)
    assert issued.status_code == 200, issued.text
    token = issued.json()["access_token"]
    assert issued.json()["token_type"] == "Bearer"
    greeted = partners.hello(token, own)
    assert greeted.status_code == 200, greeted.text
    seen = {name.lower() for name in greeted.json()["headers"]}
    assert not {"x-rempart-certificate", "x-forwarded-client-cert"} & seen - {"x-forwarded-client-cert"}
    refused(partners.hello(token, other), "invalid_token")
    refused(partners.hello(token, None), "invalid_token")
    refused(partners.hello(token, None, partners.system.url), "invalid_token")
    refused(partners.token("self", other))
    refused(partners.token("self", None))
    refused(partners.token("self", None, partners.system.url))


def test_nobody_says_in_a_header_what_certificate_they_have(partners: Partners) -> None:
    held = self_signed(partners.directory, "spoken-of")
    partners.add("spoken-of", "--cert", str(held.certificate))
    token = partners.token("spoken-of", held).json()["access_token"]
    digest = x509.load_pem_x509_certificate(held.pem.encode()).fingerprint(hashes.SHA256()).hex()
    other = self_signed(partners.directory, "liar")
    spoken = {
        "x-client-cert": quote(held.pem),
        "x-rempart-certificate": digest,
        "x-forwarded-client-cert": f'Hash={digest};Cert="{quote(held.pem)}"',
    }
    for base in (partners.system.url, None):
        for liar in (None, other):
            refused(partners.token("spoken-of", liar, base, **spoken))
            refused(partners.hello(token, liar, base, **spoken), "invalid_token")


def test_an_authority_names_clients(partners: Partners) -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    named = x509.SubjectAlternativeName([x509.DNSName("api.partner.example")])
    partners.add("by-name", "--cert-subject", "dns:api.partner.example")
    partners.add("by-dn", "--cert-subject", "dn:CN=by-dn")
    good = partners.authority.issue("good", usage, named)
    renewed = partners.authority.issue("renewed", named)
    assert partners.token("by-name", good).status_code == 200
    assert partners.token("by-name", renewed).status_code == 200  # another certificate, the same name
    assert partners.token("by-dn", partners.authority.issue("by-dn")).status_code == 200
    refused(partners.token("by-dn", good))
    wrong = {
        "another name": partners.authority.issue("x", x509.SubjectAlternativeName([x509.DNSName("api.evil.example")])),
        "expired": partners.authority.issue("expired", named, days=-1),
        "for servers": partners.authority.issue(
            "server", named, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        ),
        "another authority": Authority(partners.directory, "Partners CA").issue("foreign", usage, named),
        "self-signed": self_signed(partners.directory, "api.partner.example"),
    }
    for held in wrong.values():
        refused(partners.token("by-name", held))
    refused(partners.token("by-name", None))


def test_what_is_revoked_stops_at_its_next_use_and_so_do_the_tokens_it_got(partners: Partners) -> None:
    department = Authority(partners.directory, "Department", partners.authority)
    partners.add("department", "--cert-subject", "dn:CN=department")
    first, second = department.issue("department"), partners.authority.issue("department-root")
    partners.add("root", "--cert-subject", "dn:CN=department-root")
    token = partners.token("department", first).json()["access_token"]
    assert partners.hello(token, first).status_code == 200
    other = partners.token("root", second).json()["access_token"]
    listed = partners.authority.revoke(department.certificate)
    imported = partners.system.run("client", "revocation", "import", str(listed), "--json")
    assert imported.returncode == 0, imported.stderr
    refused(partners.token("department", first))
    eventually(lambda: refused(partners.hello(token, first), "session_ended"))
    assert partners.token("root", second).status_code == 200
    assert partners.hello(other, second).status_code == 200
    shown = json.loads(partners.system.run("client", "revocation", "list", "--json").stdout)
    assert [one["certificates"] for one in shown["lists"]] == [1]
    added = partners.system.run("client", "revocation", "add", str(second.certificate), "--note", "stolen", "--json")
    assert added.returncode == 0, added.stderr
    refused(partners.token("root", second))
    eventually(lambda: refused(partners.hello(other, second), "session_ended"))
    for id in (json.loads(imported.stdout)["id"], json.loads(added.stdout)["id"]):
        assert partners.system.run("client", "revocation", "remove", id).returncode == 0
    assert partners.token("department", first).status_code == 200
    again = partners.system.run("client", "revocation", "remove", id)
    assert (again.returncode, "no_such_revocation" in again.stderr) == (1, True)


def test_a_certificate_of_any_size_breaks_nothing(partners: Partners) -> None:
    for size in (5_000, 20_000, 60_000):
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"x" * size)
        held = partners.authority.issue(f"large-{size}", extension)
        with partners.http(held) as http:
            answers = [http.get("/auth/jwks.json"), partners.token("nobody", held), partners.hello("x", held)]
        assert [answer.status_code for answer in answers] in ([200, 401, 401], [431, 431, 401]), (size, answers)


def test_the_metadata_tells_of_the_entrance_and_browsers_are_asked_for_nothing(partners: Partners) -> None:
    with partners.http(None, partners.system.url) as http:
        document = http.get("/auth/.well-known/openid-configuration").json()
    assert document["tls_client_certificate_bound_access_tokens"] is True
    assert {"tls_client_auth", "self_signed_tls_client_auth"} <= set(document["token_endpoint_auth_methods_supported"])
    aliases = document["mtls_endpoint_aliases"]
    assert aliases["token_endpoint"] == f"{partners.entrance}/auth/token"
    assert aliases["pushed_authorization_request_endpoint"] == f"{partners.entrance}/auth/par"
    assert asked_for_a_certificate(partners, partners.entrance)
    assert not asked_for_a_certificate(partners, partners.system.url)


def asked_for_a_certificate(partners: Partners, url: str) -> bool:
    """By TLS 1.2, whose handshake says it before it ends: OpenSSL asks for the key then."""
    asked: list[bool] = []
    held = self_signed(partners.directory, f"asked-{len(url)}")
    context = ssl.create_default_context(cafile=partners.system.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(held.certificate, held.key)
    context._msg_callback = lambda _c, _way, _version, _content, message, _data: asked.append(  # type: ignore[attr-defined] # no public name
        getattr(message, "name", "") == "CERTIFICATE_REQUEST"
    )
    host, port = url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), 5) as raw, context.wrap_socket(raw, server_hostname=host):
        return any(asked)


def test_another_name_of_the_gateway_is_on_its_certificate_and_the_issuer_stays(partners: Partners) -> None:
    port = int(partners.system.url.rpartition(":")[2])
    path = "/auth/.well-known/openid-configuration"
    plain = asked_at("www.tiny.example", port, partners.system.ca, path)
    assert plain.startswith(b"HTTP/1.1 200 ")
    assert f'"issuer":"{partners.system.url}/auth"'.encode() in plain
    opened = asked_at("www.tiny.example", port, partners.system.ca, "/auth/account?x=1", "sec-fetch-mode: navigate")
    assert opened.startswith(b"HTTP/1.1 307 ")
    assert f"location: {partners.system.url}/auth/account?x=1\r\n".encode() in opened
    with pytest.raises(ssl.SSLCertVerificationError):
        asked_at("www.evil.example", port, partners.system.ca, path)


def asked_at(name: str, port: int, ca: object, path: str, *headers: str) -> bytes:
    """The answer to a GET at this host, called so."""
    context = ssl.create_default_context(cafile=str(ca))
    lines = [f"GET {path} HTTP/1.1", f"host: {name}:{port}", "connection: close", *headers, "", ""]
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        context.wrap_socket(raw, server_hostname=name) as tls,
    ):
        tls.sendall("\r\n".join(lines).encode())
        return b"".join(iter(lambda: tls.recv(65536), b""))


def test_the_record_says_why_a_bound_token_was_refused(partners: Partners) -> None:
    held = self_signed(partners.directory, "recorded")
    partners.add("recorded", "--cert", str(held.certificate))
    token = partners.token("recorded", held).json()["access_token"]
    answer = partners.hello(token, None)
    shown = partners.system.run("audit", "show", answer.headers["x-rempart-decision"], "--json")
    assert "bound to a certificate that it did not come with" in json.dumps(json.loads(shown.stdout))
