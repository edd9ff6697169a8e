# Who may do what in the bank. Asked twice for each request: at the gateway, and at the sidecar of the service.
#
# What holds for every application comes before (rempart.base: login, auditors, declared calls). A request passes when
# a grant below names it and no restriction does. Each rule has a name, and the refusal says what is missing.
package authz

import rego.v1

decision := object.union({"allow": false}, restriction) if {
	count(restrictions) > 0
	restriction := restrictions[min(object.keys(restrictions))]
} else := {"allow": true, "rule": rule, "reason": grants[rule]} if {
	count(grants) > 0
	rule := min(object.keys(grants))
} else := {
	"allow": false,
	"rule": "authz.login_needed",
	"code": "unauthenticated",
	"status": 401,
	"reason": "log in, and send the token",
} if {
	from_outside
	not person
} else := {
	"allow": false,
	"rule": "authz.no_grant",
	"code": missing_code,
	"reason": missing_reason,
}

# Who asks

person := input.jwt.sub if {
	is_string(input.jwt.sub)
	input.jwt.sub != ""
}

role := input.jwt.role if person

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

grants["wallet.own"] := "people see their own wallet" if {
	from_outside
	input.service == "wallet"
	input.method == "GET"
	input.path == "/wallet"
	own_query
}

grants["payment.by_user"] := "role user pays; the limit is checked by the service" if {
	from_outside
	input.service == "payment"
	input.method == "POST"
	input.path == "/payments"
	role == "user"
}

grants["users.read_by_admin"] := "role admin sees accounts" if {
	from_outside
	input.service == "users"
	input.method == "GET"
	users_path
	role == "admin"
}

grants["users.change_by_admin"] := "role admin changes accounts" if {
	from_outside
	input.service == "users"
	input.method == "PATCH"
	count(input.segments) == 2
	users_path
	role == "admin"
}

grants["transactions.read_by_finance"] := "role finance sees transactions" if {
	from_outside
	input.service == "wallet"
	input.method == "GET"
	input.path == "/transactions"
	role == "finance"
}

grants["transactions.rollback_by_finance"] := "role finance rolls back; age and amount are checked by the service" if {
	from_outside
	input.service == "wallet"
	rollback_path
	role == "finance"
}

grants["transfer.by_payment"] := "payment moves money for the person whose token it passes on" if {
	from_workload("payment")
	input.service == "wallet"
	input.method == "POST"
	input.path == "/transfers"
	role == "user"
}

grants["deposit.by_agent"] := "the deposit agent deposits" if {
	from_client("deposit-agent")
	input.service == "wallet"
	input.method == "POST"
	input.path == "/deposit"
}

own_query if {
	person
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

restrictions["context.old_token"] := {
	"rule": "context.old_token",
	"code": "login_too_old",
	"reason": "who changes accounts or rolls back must have got the token lately: log in again",
} if {
	input.method in {"POST", "PATCH"}
	role in {"admin", "finance"}
	input.context.token_age > data.bank.sensitive_token_age
}

restrictions["context.volume"] := {
	"rule": "context.volume",
	"code": "too_many_requests",
	"status": 429,
	"reason": "too many movements of money within a minute",
} if {
	moves_money
	input.context.volume.last_minute > data.bank.movements_per_minute
}

restrictions["context.foreign_origin"] := {
	"rule": "context.foreign_origin",
	"code": "foreign_origin",
	"reason": "another web site sent this request",
} if {
	not input.method in {"GET", "HEAD"}
	is_string(input.context.origin)
	not input.context.origin in {"", "null"}
	not input.context.origin in data.bank.web_origins
}

restrictions["context.opaque_origin"] := {
	"rule": "context.opaque_origin",
	"code": "foreign_origin",
	"reason": "a page without an origin of its own sent this request",
} if {
	not input.method in {"GET", "HEAD"}
	input.context.origin == "null"
}

moves_money if input.path in {"/payments", "/transfers"}

moves_money if rollback_path

# What a refusal says when nothing grants

default missing_code := "forbidden"

missing_code := "not_your_wallet" if {
	input.service == "wallet"
	input.path == "/wallet"
	from_outside
	person
} else := "role_not_allowed" if {
	from_outside
	person
	input.path != "/deposit"
	input.path != "/transfers"
} else := "workload_not_allowed" if {
	input.pep == "sidecar"
	not from_outside
}

missing_reason := reasons[missing_code]

reasons := {
	"forbidden": "nobody may do this from here",
	"not_your_wallet": "people see their own wallet only",
	"role_not_allowed": "this role may not do that",
	"workload_not_allowed": "this workload may not do that",
}
