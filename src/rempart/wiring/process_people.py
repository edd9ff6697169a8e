"""What the supervisor tells people: see `process_settings`."""

from __future__ import annotations

import msgspec

from rempart.people.administration.roles import RoleRules

from .people_factors import FactorSettings
from .people_mail import MailSettings
from .people_sessions import SessionSettings
from .people_state import StateSettings


class PeopleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    issuer: str
    audience: str
    access_ttl: int = 3600
    refresh_ttl: int = 7 * 86400
    signing_algorithm: str = "ES256"  # of access tokens
    signing_key_ttl: int = 30 * 86400
    jwks_max_age: int = 60
    signing_key_lead: int = 180  # a new key is published this long before it signs: longer than any key set is cached
    argon2_workers: int = 2
    factors: FactorSettings = FactorSettings()
    client_ip_header: str = "x-forwarded-for"  # believed from the gateway only
    gateway_spiffe_id: str = (
        ""  # empty: the trust domain's rempart/gateway; as empty, below: its users, payment, wallet
    )
    administration_callers: list[str] = []
    payment_readers: list[str] = []
    roles: dict[str, RoleRules] = {}  # the application's own, and permissions of built-in ones
    mail: MailSettings = MailSettings()
    state: StateSettings = StateSettings()
    sessions: SessionSettings = SessionSettings()
    security_profile: str = "baseline"  # or "fapi2"
    client_registration: str = "off"  # or "invited"
    backchannel_ca: str = ""  # PEM of authorities believed, beside the public ones, where clients are told of logouts
    mtls_url: str = ""  # origin where clients are asked for certificates
    other_origins: list[str] = []  # at which the gateway answers, too: browsers are sent to the issuer's
    mtls_authorities: str = ""  # PEM of those whose certificates name clients
    workload_api: str = ""  # where the keys of JWT-SVIDs come from; empty: a JWT-SVID buys nothing
    unsafe_disabled: list[str] = []
