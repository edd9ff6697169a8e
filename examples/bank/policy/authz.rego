# Who may do what in the bank. Asked twice for each request: at the gateway, and at the sidecar of the service.
#
# What holds for every application comes before (rempart.base: login, auditors, declared calls). A request passes when
# a grant below names it and no restriction does. Each rule has a name, and a refusal says what is missing. Every rule
# has one value for each input, so that both of Rempart's evaluators answer alike.
package authz

import rego.v1

decision := restriction if {
	restriction
} else := grant if {
	grant
} else := refused("authz.login_needed", "unauthenticated", "log in, and send the token", 401) if {
	from_outside
	not person
} else := refused("authz.scope_needed", "insufficient_scope", "this token is not a person's own session", 403) if {
	from_outside
	not own_session
} else := refused("wallet.not_own", "not_your_wallet", "people see their own wallet only", 403) if {
	from_outside
	input.service == "wallet"
	input.path == "/wallet"
} else := refused("authz.role_needed", "role_not_allowed", "this role may not do that", 403) if {
	from_outside
} else := refused("authz.workload_not_allowed", "workload_not_allowed", "this workload may not do that", 403)

refused(rule, code, reason, status) := {"allow": false, "rule": rule, "code": code, "reason": reason, "status": status}

# Who asks

person := input.jwt.sub if {
	is_string(input.jwt.sub)
	input.jwt.sub != ""
}

# What another program was given on a person's behalf is for whom its scopes name, and the bank has no such scopes.
own_session if {
	person
	input.jwt.scope == "session" # nearly always, and costs less than splitting
}

own_session if {
	person
	"session" in split(input.jwt.scope, " ")
}

role := input.jwt.role if own_session

from_outside if input.pep == "gateway"

from_outside if {
	input.pep == "sidecar"
	input.spiffe_id == data.rempart.gateway
}

# The request, from a workload itself and never from outside.
from_workload(name) if {
	input.pep == "sidecar"
	input.spiffe_id == data.rempart.services[name].spiffe_id
	input.spiffe_id != data.rempart.gateway
}

from_client(name) if {
	input.pep == "sidecar"
	input.spiffe_id == concat("", ["spiffe://", data.rempart.trust_domain, "/", name])
}

# What is granted

grant := {"allow": true, "rule": "wallet.own", "reason": "people see their own wallet"} if {
	from_outside
	input.service == "wallet"
	input.method == "GET"
	input.path == "/wallet"
	own_query
} else := {"allow": true, "rule": "payment.by_user", "reason": "role user pays; the limit is checked by the service"} if {
	from_outside
	input.service == "payment"
	input.method == "POST"
	input.path == "/payments"
	role == "user"
} else := {"allow": true, "rule": "users.read_by_admin", "reason": "role admin sees accounts"} if {
	from_outside
	input.service == "users"
	input.method == "GET"
	users_path
	role == "admin"
} else := {"allow": true, "rule": "users.change_by_admin", "reason": "role admin changes accounts"} if {
	from_outside
	input.service == "users"
	input.method == "PATCH"
	count(input.segments) == 2
	users_path
	role == "admin"
} else := {"allow": true, "rule": "transactions.read_by_finance", "reason": "role finance sees transactions"} if {
	from_outside
	input.service == "wallet"
	input.method == "GET"
	input.path == "/transactions"
	role == "finance"
} else := {"allow": true, "rule": "transactions.rollback_by_finance", "reason": "role finance rolls back; age and amount are checked by the service"} if {
	from_outside
	input.service == "wallet"
	rollback_path
	role == "finance"
} else := {"allow": true, "rule": "transfer.by_payment", "reason": "payment moves money for the person whose token it passes on"} if {
	from_workload("payment")
	input.service == "wallet"
	input.method == "POST"
	input.path == "/transfers"
	role == "user"
} else := {"allow": true, "rule": "deposit.by_agent", "reason": "the deposit agent deposits"} if {
	from_client("deposit-agent")
	input.service == "wallet"
	input.method == "POST"
	input.path == "/deposit"
}

own_query if {
	own_session
	input.query.user_id == person
}

users_path if input.path == "/users"

users_path if {
	count(input.segments) == 2
	input.segments[0] == "users"
	input.segments[1] != ""
	input.path == concat("/", ["", "users", input.segments[1]])
}

rollback_path if {
	input.method == "POST"
	count(input.segments) == 3
	input.segments[0] == "transactions"
	input.segments[1] != ""
	input.segments[2] == "rollback"
	input.path == concat("/", ["", "transactions", input.segments[1], "rollback"])
}

# What is refused even so: the context of the request

restriction := refused("context.foreign_origin", "foreign_origin", "another web site sent this request", 403) if {
	not input.method in {"GET", "HEAD"}
	is_string(input.context.origin)
	input.context.origin != ""
	not own_origin
} else := refused("context.old_token", "login_too_old", "log in again: this needs a fresh token", 403) if {
	input.method in {"POST", "PATCH"}
	role in {"admin", "finance"}
	input.context.token_age > data.bank.sensitive_token_age
} else := refused("context.volume", "too_many_requests", "too many movements of money within a minute", 429) if {
	input.context.volume.last_minute > data.bank.movements_per_minute
	moves_money
}

own_origin if {
	some origin in data.bank.web_origins
	input.context.origin == origin
}

moves_money if input.path in {"/payments", "/transfers"}

moves_money if rollback_path
