"""Passkeys: registration and authentication ceremonies of a relying party (WebAuthn Level 3, sections 7.1 and 7.2).

Attestation is not asked for; `none` and `packed` statements are taken, others refused: who made the authenticator is
not judged. The library is imported at the first use, few processes need it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, RempartError

if TYPE_CHECKING:
    from webauthn.helpers.structs import PublicKeyCredentialDescriptor

TIMEOUT = 300_000  # milliseconds
MAX_ID = 1023  # bytes of a credential id (section 4)
_MOST_TEXT = 12_000  # characters of one base64url field: RSA keys and packed certificates fit
_FORMATS = frozenset({"none", "packed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCredential:
    """`public_key` is COSE. `synced`: the key may leave its device (backup eligible)."""

    credential_id: bytes
    public_key: bytes = field(repr=False)
    counter: int
    synced: bool
    verified: bool
    transports: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """`verified`: the authenticator verified the person (PIN, fingerprint). The caller judges `counter`."""

    counter: int
    synced: bool
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What an answer says of itself before anything of it is verified."""

    credential_id: bytes
    challenge: bytes
    user_handle: bytes | None


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """`id` is the issuer's host name, `origin` its scheme, host and port."""

    id: str
    origin: str
    name: str

    def creation_options(
        self,
        challenge: bytes,
        *,
        user_id: bytes,
        email: str,
        name: str,
        registered: Sequence[tuple[bytes, tuple[str, ...]]],
    ) -> dict[str, Any]:
        """For `PublicKeyCredential.parseCreationOptionsFromJSON`: a discoverable key and verification where it can."""
        from webauthn import generate_registration_options
        from webauthn.helpers import options_to_json_dict
        from webauthn.helpers.cose import COSEAlgorithmIdentifier
        from webauthn.helpers.structs import (
            AuthenticatorSelectionCriteria,
            ResidentKeyRequirement,
            UserVerificationRequirement,
        )

        options = generate_registration_options(
            rp_id=self.id,
            rp_name=self.name,
            user_id=user_id,
            user_name=email,
            user_display_name=name,
            challenge=challenge,
            timeout=TIMEOUT,
            exclude_credentials=[_descriptor(*known) for known in registered],
            supported_pub_key_algs=[
                COSEAlgorithmIdentifier.ECDSA_SHA_256,
                COSEAlgorithmIdentifier.EDDSA,
                COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
            ],
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.PREFERRED,
                user_verification=UserVerificationRequirement.PREFERRED,
            ),
        )
        return options_to_json_dict(options)

    def request_options(
        self, challenge: bytes, *, allowed: Sequence[tuple[bytes, tuple[str, ...]]] = (), verify: bool
    ) -> dict[str, Any]:
        """For `PublicKeyCredential.parseRequestOptionsFromJSON`; none `allowed`: any discoverable key of ours."""
        from webauthn import generate_authentication_options
        from webauthn.helpers import options_to_json_dict
        from webauthn.helpers.structs import UserVerificationRequirement

        options = generate_authentication_options(
            rp_id=self.id,
            challenge=challenge,
            timeout=TIMEOUT,
            allow_credentials=[_descriptor(*known) for known in allowed],
            user_verification=(
                UserVerificationRequirement.REQUIRED if verify else UserVerificationRequirement.PREFERRED
            ),
        )
        return options_to_json_dict(options)

    def claimed(self, answer: Mapping[str, Any]) -> Claimed:
        """Raises BadInput `bad_passkey`."""
        response = answer.get("response")
        if not isinstance(response, Mapping):
            raise _bad("it has no response")
        client = _client_data(response)
        handle = response.get("userHandle")
        return Claimed(
            credential_id=_bytes(answer.get("rawId"), MAX_ID),
            challenge=_bytes(client.get("challenge"), 256),
            user_handle=_bytes(handle, 64) if handle else None,
        )

    def verify_registration(self, answer: Mapping[str, Any], challenge: bytes) -> NewCredential:
        """Raises BadInput `bad_passkey`, whatever was given."""
        from webauthn import verify_registration_response

        response = self._of_our_page(answer)
        try:
            found = verify_registration_response(
                credential=dict(answer),
                expected_challenge=challenge,
                expected_rp_id=self.id,
                expected_origin=self.origin,
            )
        except Exception as error:  # the library lets out what its parsers raise on odd bytes
            raise _bad(_why(error)) from None
        if found.fmt not in _FORMATS:
            raise _bad("attestation of this kind is not taken")
        if not 1 <= len(found.credential_id) <= MAX_ID:
            raise _bad("its id is too long")
        listed = response.get("transports")
        transports = [word for word in listed if isinstance(word, str)] if isinstance(listed, list) else []
        return NewCredential(
            credential_id=found.credential_id,
            public_key=found.credential_public_key,
            counter=found.sign_count,
            synced=found.credential_device_type.value == "multi_device",
            verified=found.user_verified,
            transports=tuple(word for word in transports[:8] if word in _transports()),
        )

    def verify_assertion(
        self, answer: Mapping[str, Any], challenge: bytes, public_key: bytes, *, verify: bool
    ) -> Assertion:
        """`verify`: the person must have been verified. Raises BadInput `bad_passkey`, whatever was given."""
        from webauthn import verify_authentication_response

        self._of_our_page(answer)
        try:
            found = verify_authentication_response(
                credential=dict(answer),
                expected_challenge=challenge,
                expected_rp_id=self.id,
                expected_origin=self.origin,
                credential_public_key=public_key,
                credential_current_sign_count=0,
                require_user_verification=verify,
            )
        except Exception as error:  # the library lets out what its parsers raise on odd bytes
            raise _bad(_why(error)) from None
        return Assertion(
            counter=found.new_sign_count,
            synced=found.credential_device_type.value == "multi_device",
            verified=found.user_verified,
        )

    def _of_our_page(self, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The response, if it was made in a page of ours and not in a frame of another's (7.1 step 10, 7.2 step 13)."""
        self.claimed(answer)
        response: Mapping[str, Any] = answer["response"]
        client = _client_data(response)
        if client.get("crossOrigin", False) is not False or "topOrigin" in client:
            raise _bad("it was made in a frame of another page")
        return response


def _client_data(response: Mapping[str, Any]) -> Mapping[str, Any]:
    raw = _bytes(response.get("clientDataJSON"), _MOST_TEXT)
    try:
        client = strict_json.loads(raw)
    except RempartError:
        client = None
    if not isinstance(client, dict):
        raise _bad("its client data can't be read")
    return client


def _bytes(text: Any, most: int) -> bytes:
    """base64url without padding, as `toJSON()` writes it."""
    try:
        if not isinstance(text, str) or not 0 < len(text) <= min(_MOST_TEXT, 2 * most):
            raise ValueError
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _bad("a part of it is missing or not base64url") from None


def _descriptor(credential_id: bytes, transports: tuple[str, ...]) -> PublicKeyCredentialDescriptor:
    from webauthn.helpers.structs import AuthenticatorTransport, PublicKeyCredentialDescriptor

    return PublicKeyCredentialDescriptor(
        id=credential_id, transports=[AuthenticatorTransport(word) for word in transports] or None
    )


def _transports() -> frozenset[str]:
    from webauthn.helpers.structs import AuthenticatorTransport

    return frozenset(transport.value for transport in AuthenticatorTransport)


def _why(error: Exception) -> str:
    """The library's own words name what differs; those of parsers it passes on could quote what was sent."""
    from webauthn.helpers.exceptions import WebAuthnException

    return str(error)[:200] if isinstance(error, WebAuthnException) else "it can't be read"


def _bad(why: str) -> BadInput:
    return BadInput("bad_passkey", f"this passkey's answer can't be used: {why}", "try again, or use another way")
