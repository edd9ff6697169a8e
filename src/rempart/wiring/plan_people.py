"""What rempart.toml says of people, as the process `people` is told it."""

from __future__ import annotations

from .plan_names import own_origins
from .process_people import PeopleSettings
from .settings import AppSettings


def people_settings(app: AppSettings, issuer: str, workload_api: str, unsafe_disabled: list[str]) -> PeopleSettings:
    return PeopleSettings(
        issuer=issuer,
        audience=app.trust_domain,
        access_ttl=app.access_ttl,
        refresh_ttl=app.refresh_ttl,
        signing_algorithm=app.signing_algorithm,
        roles=app.roles,
        mail=app.mail,
        state=app.state,
        sessions=app.sessions,
        security_profile=app.security_profile,
        client_registration=app.client_registration,
        backchannel_ca=app.backchannel_ca,
        mtls_url=app.names.mtls(*app.mtls.listen) if app.mtls.listen else "",
        other_origins=own_origins(app, issuer)[1:],
        mtls_authorities=app.mtls.authorities,
        workload_api=workload_api,
        factors=app.factors,
        unsafe_disabled=unsafe_disabled,
    )
