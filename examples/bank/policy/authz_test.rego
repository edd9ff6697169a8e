# Each row of the table of routes, for each role, and what an attacker would try with it.
package authz_test

import rego.v1

import data.authz

domain := "spiffe://bank.example/"

system := {
	"trust_domain": "bank.example",
	"gateway": "spiffe://bank.example/rempart/gateway",
	"services": {
		"users": {"spiffe_id": "spiffe://bank.example/users"},
		"wallet": {"spiffe_id": "spiffe://bank.example/wallet"},
		"payment": {"spiffe_id": "spiffe://bank.example/payment"},
	},
}

settings := {"sensitive_token_age": 3600, "movements_per_minute": 6000, "web_origins": ["https://bank.example"]}

roles := {"user", "admin", "finance", "audit", "devops", "customer", "service", "", "USER", "user "}

calm := {"volume": {"last_minute": 1}, "origin": "", "token_age": 10, "ip": "127.0.0.1"}

nobody := null

person(role) := {"sub": "acc_1", "role": role, "scope": "session"}

segments_of(path) := [s | some s in split(path, "/"); s != ""]

request(pep, peer, service, method, path, query, jwt) := {
	"pep": pep,
	"spiffe_id": peer,
	"service": service,
	"method": method,
	"path": path,
	"segments": segments_of(path),
	"query": query,
	"jwt": jwt,
	"context": calm,
}

gateway(service, method, path, query, jwt) := request("gateway", null, service, method, path, query, jwt)

sidecar(peer, service, method, path, query, jwt) := request("sidecar", peer, service, method, path, query, jwt)

decide(asked) := d if {
	d := authz.decision with input as asked with data.rempart as system with data.bank as settings
}

allowed(asked) if decide(asked).allow == true

# The roles for which a request passes at the gateway and, coming from it, at the sidecar.
roles_at_gateway(service, method, path) := {r | some r in roles; allowed(gateway(service, method, path, {}, person(r)))}

roles_at_sidecar(service, method, path) := {r |
	some r in roles
	allowed(sidecar(system.gateway, service, method, path, {}, person(r)))
}

only(role, service, method, path) if {
	roles_at_gateway(service, method, path) == {role}
	roles_at_sidecar(service, method, path) == {role}
	not allowed(gateway(service, method, path, {}, nobody))
	not allowed(sidecar(system.gateway, service, method, path, {}, nobody))
}

nobody_may(service, method, path) if {
	roles_at_gateway(service, method, path) == set()
	roles_at_sidecar(service, method, path) == set()
	not allowed(gateway(service, method, path, {}, nobody))
}

# GET /wallet

test_wallet_own if {
	every r in {"user", "admin", "finance", "customer"} {
		allowed(gateway("wallet", "GET", "/wallet", {"user_id": "acc_1"}, person(r)))
		allowed(sidecar(system.gateway, "wallet", "GET", "/wallet", {"user_id": "acc_1"}, person(r)))
	}
}

test_wallet_of_another if {
	every r in roles {
		d := decide(gateway("wallet", "GET", "/wallet", {"user_id": "acc_2"}, person(r)))
		not d.allow
		d.code == "not_your_wallet"
	}
}

test_wallet_without_id if not allowed(gateway("wallet", "GET", "/wallet", {}, person("user")))

test_wallet_with_two_ids if {
	not allowed(gateway("wallet", "GET", "/wallet", {"user_id": ["acc_1", "acc_2"]}, person("user")))
}

test_wallet_without_login if {
	d := decide(gateway("wallet", "GET", "/wallet", {"user_id": "acc_1"}, nobody))
	not d.allow
	d.status == 401
}

test_wallet_with_empty_subject if {
	not allowed(gateway("wallet", "GET", "/wallet", {"user_id": ""}, {"sub": "", "role": "user", "scope": "session"}))
}

test_wallet_with_odd_subject if {
	every sub in {null, 1, true, ["acc_1"]} {
		not allowed(gateway("wallet", "GET", "/wallet", {"user_id": sub}, {"sub": sub, "role": "user", "scope": "session"}))
	}
}

test_wallet_other_methods if {
	every method in {"POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "get", "CONNECT"} {
		not allowed(gateway("wallet", method, "/wallet", {"user_id": "acc_1"}, person("user")))
	}
}

test_wallet_other_paths if {
	every path in {"/wallet/", "/wallet/acc_1", "/Wallet", "/wallet;x", "/wallet.", "/wallets", "//wallet", "/wallet%2f"} {
		not allowed(gateway("wallet", "GET", path, {"user_id": "acc_1"}, person("user")))
	}
}

test_wallet_from_a_workload if {
	every peer in {"payment", "users", "deposit-agent", "stranger"} {
		not allowed(sidecar(concat("", [domain, peer]), "wallet", "GET", "/wallet", {"user_id": "acc_1"}, person("user")))
	}
}

# POST /payments

test_payments_user_only if only("user", "payment", "POST", "/payments")

test_payments_other_methods if {
	every method in {"GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
		nobody_may("payment", method, "/payments")
	}
}

test_payments_other_paths if {
	every path in {"/payments/", "/payments/1", "/PAYMENTS", "/transfers", "/deposit"} {
		nobody_may("payment", "POST", path)
	}
}

# /users

test_users_read_admin_only if {
	only("admin", "users", "GET", "/users")
	only("admin", "users", "GET", "/users/acc_2")
}

test_users_change_admin_only if only("admin", "users", "PATCH", "/users/acc_2")

test_users_no_change_of_all if nobody_may("users", "PATCH", "/users")

test_users_never_deleted_or_made if {
	every method in {"POST", "PUT", "DELETE"} {
		nobody_may("users", method, "/users")
		nobody_may("users", method, "/users/acc_2")
	}
}

test_users_deeper_paths if {
	every path in {"/users/acc_2/payment", "/users/acc_2/", "/users//acc_2", "/users/", "/accounts"} {
		nobody_may("users", "GET", path)
	}
}

# /transactions

test_transactions_finance_only if {
	only("finance", "wallet", "GET", "/transactions")
	only("finance", "wallet", "POST", "/transactions/txn_1/rollback")
}

test_transactions_other_ways if {
	every pair in {
		["POST", "/transactions"],
		["GET", "/transactions/txn_1"],
		["DELETE", "/transactions/txn_1"],
		["GET", "/transactions/txn_1/rollback"],
		["POST", "/transactions/rollback"],
		["POST", "/transactions//rollback"],
		["POST", "/transactions/txn_1/rollback/"],
		["POST", "/transactions/a/b/rollback"],
	} {
		nobody_may("wallet", pair[0], pair[1])
	}
}

test_finance_token_from_a_workload if {
	every peer in {"payment", "users", "deposit-agent"} {
		id := concat("", [domain, peer])
		not allowed(sidecar(id, "wallet", "POST", "/transactions/txn_1/rollback", {}, person("finance")))
		not allowed(sidecar(id, "wallet", "GET", "/transactions", {}, person("finance")))
	}
}

# POST /transfers: payment, with a user's token

test_transfers_by_payment if {
	allowed(sidecar(system.services.payment.spiffe_id, "wallet", "POST", "/transfers", {}, person("user")))
}

test_transfers_need_the_token if {
	not allowed(sidecar(system.services.payment.spiffe_id, "wallet", "POST", "/transfers", {}, nobody))
}

test_transfers_need_a_user if {
	every r in roles - {"user"} {
		not allowed(sidecar(system.services.payment.spiffe_id, "wallet", "POST", "/transfers", {}, person(r)))
	}
}

test_transfers_by_nobody_else if {
	every peer in {"users", "wallet", "deposit-agent", "payment2", "Payment", "payment/x", "rempart/gateway", "rempart/people"} {
		not allowed(sidecar(concat("", [domain, peer]), "wallet", "POST", "/transfers", {}, person("user")))
	}
}

test_transfers_by_payment_of_another_domain if {
	not allowed(sidecar("spiffe://partner.example/payment", "wallet", "POST", "/transfers", {}, person("user")))
}

test_transfers_never_from_outside if {
	nobody_may("wallet", "POST", "/transfers")
	not allowed(gateway("wallet", "POST", "/transfers", {}, person("user")))
}

# POST /deposit: the deposit agent

test_deposit_by_agent if {
	allowed(sidecar("spiffe://bank.example/deposit-agent", "wallet", "POST", "/deposit", {}, nobody))
}

test_deposit_agent_nothing_else if {
	every pair in {
		["GET", "/wallet"], ["POST", "/transfers"], ["GET", "/deposit"], ["POST", "/deposit/"], ["GET", "/transactions"],
		["POST", "/transactions/txn_1/rollback"], ["PUT", "/deposit"],
	} {
		not allowed(sidecar("spiffe://bank.example/deposit-agent", "wallet", pair[0], pair[1], {"user_id": "acc_1"}, nobody))
	}
	not allowed(sidecar("spiffe://bank.example/deposit-agent", "payment", "POST", "/deposit", {}, nobody))
	not allowed(sidecar("spiffe://bank.example/deposit-agent", "users", "GET", "/users", {}, person("admin")))
}

test_deposit_by_nobody_else if {
	every peer in {"payment", "users", "wallet", "deposit-agent2", "deposit-agent/", "rempart/gateway"} {
		not allowed(sidecar(concat("", [domain, peer]), "wallet", "POST", "/deposit", {}, nobody))
	}
	not allowed(sidecar("spiffe://partner.example/deposit-agent", "wallet", "POST", "/deposit", {}, nobody))
	nobody_may("wallet", "POST", "/deposit")
}

# Context

in_context(asked, changed) := object.union(asked, {"context": object.union(calm, changed)})

rollback := gateway("wallet", "POST", "/transactions/txn_1/rollback", {}, person("finance"))

payment := gateway("payment", "POST", "/payments", {}, person("user"))

test_rollback_needs_a_fresh_login if {
	allowed(in_context(rollback, {"token_age": 3600}))
	d := decide(in_context(rollback, {"token_age": 3601}))
	not d.allow
	d.code == "login_too_old"
}

test_payments_are_not_too_many if {
	allowed(in_context(payment, {"volume": {"last_minute": 6000}}))
	d := decide(in_context(payment, {"volume": {"last_minute": 6001}}))
	not d.allow
	d.status == 429
}

test_payments_come_from_no_foreign_site if {
	allowed(in_context(payment, {"origin": "https://bank.example"}))
	every origin in {"https://evil.example", "null", "https://bank.example.evil.example", "http://bank.example"} {
		not allowed(in_context(payment, {"origin": origin}))
	}
}

test_two_restrictions_still_one_answer if {
	d := decide(in_context(rollback, {"origin": "https://evil.example", "token_age": 99999}))
	not d.allow
}

test_every_answer_has_rule_and_reason if {
	every asked in [rollback, payment, gateway("wallet", "GET", "/x", {}, nobody), sidecar("spiffe://a/b", "users", "PUT", "/y", {}, nobody)] {
		d := decide(asked)
		d.rule != ""
		d.reason != ""
		is_boolean(d.allow)
	}
}

# A token that another program got for a person, with any scopes but the person's own session.
test_what_other_programs_were_given_opens_nothing if {
	every scope in ["", "openid email", "sessions", "openid session2"] {
		d := decide(gateway("wallet", "GET", "/wallet", {"user_id": "acc_1"}, {"sub": "acc_1", "role": "user", "scope": scope}))
		d.code == "insufficient_scope"
		not allowed(gateway("payment", "POST", "/payments", {}, {"sub": "acc_1", "role": "user", "scope": scope}))
	}
	not allowed(gateway("wallet", "GET", "/wallet", {"user_id": "acc_1"}, {"sub": "acc_1"}))
}

test_a_session_among_other_scopes_is_one if {
	allowed(gateway("wallet", "GET", "/wallet", {"user_id": "acc_1"}, {"sub": "acc_1", "role": "user", "scope": "openid session"}))
}
