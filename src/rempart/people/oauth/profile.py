"""What is demanded of everybody: the setting `security_profile`."""

from __future__ import annotations

from dataclasses import dataclass

from rempart.kernel.errors import BadInput

from .model import BY_CERTIFICATE, Grant, Method


@dataclass(frozen=True, slots=True)
class Profile:
    """`methods`: how clients may authenticate; `algorithms`: with what they may sign; `grants`: all that are enabled.

    `par_only`: authorization requests come by PAR only. `bound_only`: every access token is bound to a key.
    `nonces`: DPoP proofs must carry the server's nonce. `signing`: with what tokens may be
    signed, ID tokens with the first where their client is not registered for another.
    """

    name: str
    methods: frozenset[Method]
    grants: frozenset[Grant]
    algorithms: tuple[str, ...]
    signing: tuple[str, ...]
    par_only: bool
    bound_only: bool
    nonces: bool


BASELINE = Profile(
    name="baseline",
    methods=frozenset(Method),
    grants=frozenset(Grant),
    algorithms=("ES256", "EdDSA", "Ed25519", "PS256", "RS256"),
    signing=("RS256", "ES256", "EdDSA"),
    par_only=False,
    bound_only=False,
    nonces=False,
)
FAPI2 = Profile(
    name="fapi2",
    methods=frozenset({Method.PRIVATE_KEY_JWT}) | BY_CERTIFICATE,
    grants=frozenset(Grant) - {Grant.PASSWORD},
    algorithms=("ES256", "EdDSA", "Ed25519", "PS256"),
    signing=("ES256", "EdDSA"),
    par_only=True,
    bound_only=True,
    nonces=True,
)
"""FAPI 2.0 Security Profile (final, February 2025), section 5.3; algorithms of 5.4."""


def profile_named(name: str) -> Profile:
    """Raises BadInput `bad_settings`."""
    for profile in (BASELINE, FAPI2):
        if profile.name == name:
            return profile
    raise BadInput("bad_settings", f"people's security_profile is {name[:40]!r}", "choose baseline or fapi2")
