"""Server and agent as two real processes: joining, serving, going on without the server, being banned."""

from __future__ import annotations

from tests.agent_support import entry_for, running_agent
from tests.identity_support import running_identity
from tests.support import eventually, free_port

from rempart.sdk.spiffe import fetch_x509_svid


def test_an_agent_joins_and_serves_its_own_entries() -> None:
    port = free_port()
    with running_identity([], agents=("127.0.0.1", port)) as identity, running_agent(identity, port) as (agent, name):
        entries = [entry_for(name, "/batch"), entry_for("", "/here")]
        assert identity.admin("POST", "/entries", {"entries": entries}).status_code == 200
        eventually(lambda: fetch_x509_svid(agent.endpoint), within=5)
        assert fetch_x509_svid(agent.endpoint).spiffe_id.endswith("/batch")
        assert fetch_x509_svid(identity.endpoint).spiffe_id.endswith("/here")
        assert agent.status()["spiffe_id"] == name
