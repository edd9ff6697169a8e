"""Messages of the secret discovery service by hand, held against the classes that protoc makes of `sds.proto`."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from rempart.protocols.protobuf import Malformed
from rempart.protocols.sds import messages
from rempart.protocols.sds import sds_pb2 as generated

NAMES = st.lists(st.text(max_size=20), max_size=4)


@given(NAMES, st.text(), st.text(), st.booleans())
def test_requests(names: list[str], type_url: str, nonce: str, rejected: bool) -> None:
    request = generated.DiscoveryRequest(
        version_info="7", resource_names=names, type_url=type_url, response_nonce=nonce
    )
    if rejected:
        request.error_detail.SetInParent()
    read = messages.DiscoveryRequest.read(request.SerializeToString())
    assert read == messages.DiscoveryRequest(tuple(names), type_url, nonce, rejected, None)


@given(
    st.dictionaries(
        st.text(max_size=9), st.text(max_size=9) | st.booleans() | st.none() | st.just({"a": 1}), max_size=4
    ),
    st.none() | st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
)
def test_what_an_envoy_says_that_it_is(metadata: dict[str, Any], version: tuple[int, int] | None) -> None:
    node = generated.Node(id="envoy", cluster="mesh")
    node.metadata.update(metadata)
    if version is not None:
        node.user_agent_build_version.version.major_number = version[0]
        node.user_agent_build_version.version.minor_number = version[1]
    read = messages.DiscoveryRequest.read(generated.DiscoveryRequest(node=node).SerializeToString()).node
    assert read is not None
    said = {key: str(value).lower() if isinstance(value, bool) else value for key, value in metadata.items()}
    assert read.said == {key: value for key, value in said.items() if isinstance(value, str)}
    assert read.version == version


def test_a_build_without_a_version_is_an_old_one_and_parts_of_a_node_come_together() -> None:
    node = generated.Node()
    node.user_agent_build_version.SetInParent()
    parts = generated.DiscoveryRequest(node=node).SerializeToString()
    more = generated.Node()
    more.metadata.update({"a": True})
    parts += generated.DiscoveryRequest(node=more).SerializeToString()
    assert messages.DiscoveryRequest.read(parts).node == messages.Node({"a": "true"}, (0, 0))


@given(st.binary(max_size=60))
def test_the_same_bytes_are_read_alike(data: bytes) -> None:
    try:
        ours = messages.DiscoveryRequest.read(data)
    except Malformed:
        return
    try:
        theirs = generated.DiscoveryRequest.FromString(data)
    except DecodeError:
        return  # in a part that is not read here
    assert list(ours.names) == list(theirs.resource_names)
    assert (ours.type_url, ours.nonce) == (theirs.type_url, theirs.response_nonce)
    assert ours.rejected == theirs.HasField("error_detail")
    assert (ours.node is not None) == theirs.HasField("node")


@pytest.mark.parametrize("data", [b"\x1a\x01\xff", b"\x1a\x05a", b"\x12\x01\x80"])
def test_what_is_no_request(data: bytes) -> None:
    with pytest.raises(Malformed):
        messages.DiscoveryRequest.read(data)


def secrets_of(data: bytes) -> list[Any]:
    response = generated.DiscoveryResponse.FromString(data)
    assert response.type_url == messages.SECRET
    assert {one.type_url for one in response.resources} <= {messages.SECRET}
    return [generated.Secret.FromString(one.value) for one in response.resources]


@given(st.text(), st.binary(), st.binary(), st.binary(), st.dictionaries(st.text(), st.binary(), max_size=3), st.text())
def test_responses(name: str, chain: bytes, key: bytes, pem: bytes, domains: dict[str, bytes], version: str) -> None:
    data = messages.response(
        [messages.certificate(name, chain, key), messages.roots(name, pem), messages.validator(name, domains.items())],
        version,
    )
    response = generated.DiscoveryResponse.FromString(data)
    assert (response.version_info, response.nonce) == (version, version)
    certificate, roots, validator = secrets_of(data)
    assert (certificate.name, roots.name, validator.name) == (name, name, name)
    assert certificate.WhichOneof("type") == "tls_certificate"
    assert certificate.tls_certificate.certificate_chain.inline_bytes == chain
    assert certificate.tls_certificate.private_key.inline_bytes == key
    assert roots.validation_context.trusted_ca.inline_bytes == pem
    assert not roots.validation_context.HasField("custom_validator_config")
    extension = validator.validation_context.custom_validator_config
    assert (extension.name, extension.typed_config.type_url) == ("envoy.tls.cert_validator.spiffe", messages.VALIDATOR)
    config = generated.SPIFFECertValidatorConfig.FromString(extension.typed_config.value)
    assert {one.name: one.trust_bundle.inline_bytes for one in config.trust_domains} == domains
    assert len(config.trust_domains) == len(domains)
