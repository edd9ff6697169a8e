"""The documents that others read: SPIFFE bundle and JWKS (X509-SVID section 6.1, JWT-SVID section 6.1)."""

from __future__ import annotations

import base64
import json

from tests.upstream_ca import make_ca

from rempart.crypto.jose import SigningKey
from rempart.crypto.x509 import Certificate, pem_to_ders
from rempart.workloads.foreign_bundle import parse_bundle
from rempart.workloads.model import Bundle
from rempart.workloads.workload_api import jwt_bundle, spiffe_bundle

DOMAIN = "bank.example"


def test_the_documents_of_the_trust_domain_have_their_form() -> None:
    root = Certificate.parse(pem_to_ders(make_ca("root", kind="P-256", uri=f"spiffe://{DOMAIN}").pem())[0])
    keys = tuple(SigningKey.generate("ES256").public_jwk() for _ in range(2))
    document = spiffe_bundle(Bundle(DOMAIN, (root,), keys, 7, 60))
    assert (document["spiffe_sequence"], document["spiffe_refresh_hint"]) == (7, 60)
    assert all(key["kty"] and key["use"] for key in document["keys"])
    x509 = [key for key in document["keys"] if key["use"] == "x509-svid"]
    assert [key["x5c"] for key in x509] == [[base64.b64encode(root.der).decode()]]
    assert not any("kid" in key for key in x509)
    tokens = [key for key in document["keys"] if key["use"] == "jwt-svid"]
    assert [key["kid"] for key in tokens] == [key["kid"] for key in keys]
    assert not any("d" in key for key in document["keys"])
    assert [key["kid"] for key in json.loads(jwt_bundle(Bundle(DOMAIN, (root,), keys, 7)))["keys"]] == [
        key["kid"] for key in keys
    ]
    understood = parse_bundle(json.dumps(document), DOMAIN, ours=())
    assert ([one.der for one in understood.roots], understood.sequence, understood.refresh) == ([root.der], 7, 60.0)
    assert len(understood.jwt_keys) == 2
