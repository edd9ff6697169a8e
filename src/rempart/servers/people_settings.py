"""Whether people's settings can be meant."""

from __future__ import annotations

from rempart.crypto.jose import ALGORITHMS
from rempart.kernel.errors import BadInput
from rempart.people.password_rules import LEAST_LENGTH
from rempart.wiring.process_people import PeopleSettings


def check_settings(settings: PeopleSettings) -> None:
    """Raises BadInput `bad_settings`."""
    for name, least, most in (
        ("access_ttl", 10, 86400),
        ("refresh_ttl", 60, 365 * 86400),
        ("signing_key_ttl", 60, 3650 * 86400),
        ("signing_key_lead", 0, 86400),
        ("jwks_max_age", 0, 86400),
        ("argon2_workers", 1, 64),
        ("password_length", LEAST_LENGTH, 64),
        ("password_length_with_factor", LEAST_LENGTH, 64),
        ("password_pepper", 0, 9999),
    ):
        value = getattr(settings.factors if name.startswith("password") else settings, name)
        if not least <= value <= most:
            raise BadInput("bad_settings", f"people's {name} is {value}", f"choose {least} to {most}")
    if settings.signing_algorithm not in ALGORITHMS:
        raise BadInput(
            "bad_settings",
            f"people's signing_algorithm is {settings.signing_algorithm!r}",
            "choose " + ", ".join(ALGORITHMS),
        )
