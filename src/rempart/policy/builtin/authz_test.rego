package authz_test

import rego.v1

import data.authz

person := {"sub": "u1", "role": "user", "scope": "session"}

test_person_through_the_gateway if {
	authz.decision.allow with input as {"pep": "gateway", "jwt": person, "spiffe_id": null}
}

test_nobody_through_the_gateway if {
	not authz.decision.allow with input as {"pep": "gateway", "jwt": null, "spiffe_id": null}
	authz.decision.status == 401 with input as {"pep": "gateway", "jwt": null, "spiffe_id": null}
}

test_person_at_the_sidecar if {
	authz.decision.allow with input as {"pep": "sidecar", "jwt": person, "spiffe_id": "spiffe://t/g"}
		with data.rempart.gateway as "spiffe://t/g"
}

test_gateway_without_person_at_the_sidecar if {
	not authz.decision.allow with input as {"pep": "sidecar", "jwt": null, "spiffe_id": "spiffe://t/g"}
		with data.rempart.gateway as "spiffe://t/g"
}

test_declared_call if {
	authz.decision.allow with input as {"pep": "sidecar", "jwt": null, "spiffe_id": "spiffe://t/a"}
		with data.rempart.gateway as "spiffe://t/g"
}

test_a_token_of_another_program_is_no_session if {
	every jwt in [{"sub": "u1"}, {"sub": "u1", "scope": "openid"}, {"sub": "svc", "scope": "sessions"}] {
		authz.decision.status == 403 with input as {"pep": "gateway", "jwt": jwt, "spiffe_id": null}
	}
}
