# The policy of an application that brings none: a logged-in person reaches the declared routes through the gateway,
# workloads reach each other along declared `calls` (the base rules have refused all others before), nobody else.
package authz

import rego.v1

decision := {"allow": true, "rule": "authz.person", "reason": "a logged-in person, on a declared route"} if {
	through_gateway
	input.jwt.sub
	own_session
} else := {"allow": true, "rule": "authz.declared_call", "reason": "a workload, along a declared call"} if {
	input.pep == "sidecar"
	not through_gateway
} else := {"allow": false, "rule": "authz.scope_needed", "code": "insufficient_scope", "status": 403, "reason": "this token is not a person's own session"} if {
	input.jwt.sub
} else := {"allow": false, "rule": "authz.login_needed", "code": "unauthenticated", "status": 401, "reason": "log in first"}

# What another program was given on a person's behalf, or has for itself, is for whom its scopes name: not for all routes.
own_session if "session" in split(input.jwt.scope, " ")

through_gateway if input.pep == "gateway"

through_gateway if input.spiffe_id == data.rempart.gateway
