# What holds for every application, whatever its own policy says. `decision` is final where it is defined: an
# application's policy can't allow what is refused here, nor refuse people their login.
#
# data.rempart.callers: {SPIFFE ID: {service it may call: true}}, the gateway left out. Rempart makes it of `calls`.
# Every rule here has one value for each input, so both evaluators answer alike.
package rempart.base

import rego.v1

decision := refused("no_such_route", "unknown_route", "no service is declared for this path", 403) if {
	not data.rempart.services[input.service]
	not platform
} else := refused("sidecar_without_peer", "no_peer", "the caller did not prove who it is", 403) if {
	input.pep == "sidecar"
	not is_string(input.spiffe_id)
} else := refused("peer_not_declared", "peer_not_allowed", "the caller is not declared to call this service", 403) if {
	input.pep == "sidecar"
	input.spiffe_id != data.rempart.gateway
	not data.rempart.callers[input.spiffe_id][input.service]
	not data.rempart.unsafe["peer-allow-list"]
	not fetches_keys
} else := of_platform if {
	platform
} else := refused("token_of_another_program", "insufficient_scope", "the token is not a person's own session", 403) if {
	is_object(input.jwt)
	not own_session
	not data.rempart.scoped_tokens
}

# What another program was given, for a person or for itself, is for whom its scopes name. A policy that reads scopes
# says so: `[policy] scoped_tokens = true`.
own_session if input.jwt.scope == "session" # nearly always, and costs less than splitting

own_session if {
	is_string(input.jwt.scope)
	"session" in split(input.jwt.scope, " ")
}

platform if input.service in {"people", "observer", "identity"}

of_platform := people if {
	input.service == "people"
} else := observer if {
	input.service == "observer"
} else := identity if {
	input.service == "identity"
}

# People: anyone may log in through the gateway; accounts are for declared callers only, from inside.
people := allowed("public_login", "anyone may log in") if {
	input.method == "POST"
	input.path == "/login"
} else := refused("administration_for_administrators", "unauthenticated", "log in as an administrator", 401) if {
	administration
	not is_object(input.jwt)
} else := refused("administration_for_administrators", "role_not_allowed", "your role administers nobody", 403) if {
	administration
	not administers
} else := allowed("public_auth", "OAuth's own endpoints judge for themselves") if {
	input.segments[0] == "auth"
} else := allowed("public_metadata", "where OAuth's endpoints are is public (RFC 8414 section 3)") if {
	input.method in {"GET", "HEAD", "OPTIONS"} # a browser application on another origin asks first
	input.path == "/.well-known/oauth-authorization-server/auth"
} else := allowed("accounts_for_declared_callers", "a declared caller asks about accounts") if {
	input.segments[0] == "accounts"
	input.pep == "sidecar"
	input.spiffe_id != data.rempart.gateway
} else := refused("accounts_never_through_the_gateway", "forbidden", "accounts are not reached from outside", 403) if {
	input.segments[0] == "accounts"
} else := refused("people_has_no_such_route", "forbidden", "this is not a route of people", 403)

administration if array.slice(input.segments, 0, 2) == ["auth", "admin"]

# `manages`: roles whose holders this role administers, from rempart.toml. People asks again, for the account itself.
administers if count(data.rempart.roles[input.jwt.role].manages) > 0

# Observer: reading only, and only for auditors, or for a workload declared to call it.
observer := refused("observer_is_read_only", "forbidden", "records are only read here", 403) if {
	input.method != "GET"
} else := refused("observer_has_no_such_route", "forbidden", "this is not a route of the observer", 403) if {
	not observer_route
} else := refused("observer_from_declared_networks", "network_not_allowed", "records are not read from here", 403) if {
	input.pep == "gateway"
	count(data.rempart.readers_from) > 0
	not from_declared_network
} else := allowed("auditor_reads", "role audit reads records, policies and metrics") if {
	input.jwt.role == "audit"
} else := allowed("declared_workload_reads", "a declared workload reads records, policies and metrics") if {
	input.pep == "sidecar"
	input.spiffe_id != data.rempart.gateway
} else := refused("observer_for_auditors", "unauthenticated", "log in with role audit", 401) if {
	not is_object(input.jwt)
} else := refused("observer_for_auditors", "role_not_allowed", "only role audit may read this", 403)

# `[audit] readers_from` of rempart.toml. The gateway alone knows the reader's address.
from_declared_network if {
	some network in data.rempart.readers_from
	input.context.ip != ""
	net.cidr_contains(network, input.context.ip)
}

# Identity: what others need to trust it is for everybody; entries are for declared callers, from inside.
identity := allowed("public_documents", "discovery document, keys and bundle are public") if {
	input.method == "GET"
	input.segments[0] == "workloads"
} else := allowed("declared_registrar", "a declared workload administers entries; identity judges which") if {
	input.segments[0] == "entries"
	input.pep == "sidecar"
	input.spiffe_id != data.rempart.gateway
} else := refused("entries_never_through_the_gateway", "forbidden", "entries are not reached from outside", 403)

observer_route if input.segments[0] == "logs"

observer_route if input.path == "/metrics"

observer_route if array.slice(input.segments, 0, 2) == ["opa", "policies"]

allowed(rule, reason) := {"allow": true, "rule": concat(".", ["rempart.base", rule]), "reason": reason}

refused(rule, code, reason, status) := {
	"allow": false,
	"rule": concat(".", ["rempart.base", rule]),
	"code": code,
	"reason": reason,
	"status": status,
}

# Every sidecar verifies tokens, so every declared service may read the public keys.
fetches_keys if {
	input.service == "people"
	input.method == "GET"
	input.path == "/auth/jwks.json"
	some service in data.rempart.services
	service.spiffe_id == input.spiffe_id
}
