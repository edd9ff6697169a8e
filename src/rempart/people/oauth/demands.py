"""Which scopes and which audience a request may have (RFC 6749 section 3.3, RFC 8707, RFC 8693)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rempart.kernel.errors import BadInput

from .model import Client

OF_PERSONS = frozenset({"openid", "profile", "email", "phone", "address", "offline_access", "roles", "session"})
"""Scopes that mean something only when a person takes part."""


def scope_demanded(form: Mapping[str, str], allowed: Collection[str], default: Collection[str]) -> tuple[str, ...]:
    """Raises BadInput `invalid_scope`."""
    text = form.get("scope")
    if text is None:
        return tuple(default)
    asked = tuple(dict.fromkeys(text.split(" ")))
    if not text or not all(scope in allowed for scope in asked):
        raise BadInput("invalid_scope", "a scope is asked for that is not granted here")
    return asked


def audience_kept(
    before: tuple[str, ...], form: Mapping[str, str], client: Client, trust_domain: str
) -> tuple[str, ...]:
    """That of a token request, after `before` was named when it was authorized (RFC 8707 section 2.2).

    Raises BadInput `invalid_target`.
    """
    if not before:
        return audience_demanded(form, client, trust_domain)
    if {form[name] for name in ("audience", "resource") if name in form} - set(before):
        raise BadInput("invalid_target", "another audience was authorized")
    return before


def audience_named(form: Mapping[str, str], client: Client, trust_domain: str) -> tuple[str, ...]:
    """() where none is named. Raises BadInput `invalid_target`."""
    if "audience" in form or "resource" in form:
        return audience_demanded(form, client, trust_domain)
    return ()


def audience_demanded(form: Mapping[str, str], client: Client, trust_domain: str) -> tuple[str, ...]:
    """One, by `audience` or `resource`; the client's first where none is named. Raises BadInput `invalid_target`."""
    named = {form[name] for name in ("audience", "resource") if name in form}
    allowed = client.audiences or (trust_domain,)
    if not named:
        return () if allowed[0] == trust_domain else allowed[:1]
    if len(named) > 1 or not named <= set(allowed):
        raise BadInput("invalid_target", "this client may not have tokens for that audience")
    return tuple(named)
