"""What Envoy writes on stdout, one JSON object a line, for the sequencer to make events of.

`kind` "tls": a connection that ended without a handshake; `tls_failure` says why. `kind` "http": a request that was
refused or failed (status 400 and above). What passed isn't written: the PDP recorded it. The path has no query, since
a query may hold secrets. Absent values are null.
"""

from __future__ import annotations

from .shape import Json, typed

_FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "ip": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "tls_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "method": "%REQ(:METHOD):16%",
    "path": "%PATH(NQ:PATH):1024%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "request_id": "%RESP(x-request-id):64%",
    "decision": "%RESP(x-rempart-decision):64%",
}


def refused_handshakes(pep: str) -> list[Json]:
    """For a listener. A connection that is closed before it says anything has no reason and isn't written."""
    expression = "connection.transport_failure_reason != '' || connection.termination_details != ''"
    return [
        _stdout(
            "tls",
            pep,
            {
                "extension_filter": {
                    "name": "envoy.access_loggers.extension_filters.cel",
                    "typed_config": typed(
                        "extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=expression
                    ),
                }
            },
        )
    ]


def refused_requests(pep: str) -> list[Json]:
    """For an HTTP connection manager."""
    value = {"default_value": 400, "runtime_key": "rempart.unused"}
    return [_stdout("http", pep, {"status_code_filter": {"comparison": {"op": "GE", "value": value}}})]


def _stdout(kind: str, pep: str, which: Json) -> Json:
    fields = {"kind": kind, "pep": pep, **_FIELDS}
    if kind == "tls":
        fields["details"] = "%CONNECTION_TERMINATION_DETAILS%"
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": which,
        "typed_config": typed(
            "extensions.access_loggers.stream.v3.StdoutAccessLog",
            log_format={"json_format": fields},
        ),
    }
