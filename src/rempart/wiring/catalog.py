"""The table of Rempart's own processes: module, what it is handed, what it sees of the state directory.

What an application could swap (stores, engines) is chosen by settings of the process that uses it; which processes
exist, and with which reach, is decided here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .plan_model import Socket, View


@dataclass(frozen=True, slots=True)
class Own:
    """One of Rempart's own processes. `behind_sidecar`: a service like any other; `calls` as in rempart.toml."""

    name: str
    sockets: tuple[Socket, ...] = ()
    sees: tuple[View, ...] = ()
    routes: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    behind_sidecar: bool = False
    reads_access_logs: bool = False
    instance_of: str = ""

    @property
    def kind(self) -> str:
        """What it is, whichever instance of that."""
        return self.instance_of or self.name

    @property
    def module(self) -> str:
        return f"rempart.servers.{self.kind.replace('-', '_')}"


MOST_INSTANCES = 8
"""Of people."""
RISKS = "run/risk.sock"
"""Where the models tell the PDP whose risk is raised."""


def _api(name: str) -> Socket:
    return Socket("api", f"run/svc/{name}/app.sock", owner=name, group=name, mode=0o660)


OWN: tuple[Own, ...] = (
    Own(
        "identity",
        sockets=(Socket("workload", "run/workload.sock", mode=0o666),),
        sees=(View("run/supervisor.sock"),),
    ),
    Own(
        "people",
        sockets=(_api("people"), Socket("epochs", "run/epochs.sock", owner="pdp")),
        sees=(View("run/workload.sock"),),
        routes=("/login", "/auth", "/.well-known/oauth-authorization-server"),
        behind_sidecar=True,
    ),
    Own(
        "pdp",
        sockets=(Socket("policies", "run/policies.sock", owner="observer"),),
        sees=(View("run/epochs.sock"),),
    ),
    Own(
        "sequencer",
        sockets=(Socket("audit", "run/audit.sock", owner="observer"),),
        sees=(View("journals", writable=True),),
        reads_access_logs=True,
    ),
    Own("detector", sees=(View("run/feed/detector.sock"),)),
    Own(
        "models",
        sockets=(Socket("risk", RISKS, owner="pdp"),),
        sees=(View("run/feed/models.sock"),),
    ),
    Own("notifier", sees=(View("run/feed/notifier.sock"),)),
    Own("shipper", sees=(View("run/feed/shipper.sock"),)),
    Own(
        "observer",
        sockets=(_api("observer"),),
        sees=(
            View("run/audit.sock"),
            View("run/policies.sock"),
            View("run/metrics"),
            View("run/envoy"),
            View("run/egress/observer"),
        ),
        routes=("/logs", "/opa", "/metrics"),
        calls=("people",),
        behind_sidecar=True,
    ),
)

ROOT_SIGNER = Own("root-signer")
HOST_AGENT = Own(
    "host-agent",
    sockets=(
        Socket("workload", "run/workload.sock", mode=0o666),
        Socket("epochs", "run/epochs.sock", owner="pdp"),
    ),
    sees=(View("run/supervisor.sock"), View("journals", writable=True), View("policy", writable=True)),
    reads_access_logs=True,
)
"""On another host, in place of identity, people's epochs, the policy directory and the sequencer."""
IDENTITIES = frozenset(("identity", "sequencer", "shipper"))
"""What runs where nothing is protected and identities are all that is asked for."""


def own_processes(
    called: frozenset[str], *, public: bool, without: frozenset[str] = frozenset(), people: int = 1
) -> tuple[Own, ...]:
    """`called`: what the application's programs name in `calls`. Identity has a face behind a sidecar only if somebody
    calls it, or if it is `public`: others shall read through the gateway what they need to trust it. `without`: what
    this application has no use for. `people`: instances of it, which share its sidecar."""
    table = (*OWN, *(_another(number) for number in range(2, people + 1)))
    return tuple(
        replace(
            own,
            sockets=(*own.sockets, _api(own.name)),
            routes=("/workloads",) if public else (),
            behind_sidecar=True,
        )
        if own.name == "identity" and (public or own.name in called)
        else own
        for own in table
        if own.name not in without
    )


def epochs_path(number: int) -> str:
    """Where the instance of people of that number, from 1, tells the PDP what is over."""
    return "run/epochs.sock" if number == 1 else f"run/epochs-{number}.sock"


def instance_names(people: int) -> tuple[str, ...]:
    return ("people", *(f"people-{number}" for number in range(2, people + 1)))


def _another(number: int) -> Own:
    """One more instance of people. Its socket lies beside the first one's, for the sidecar of both."""
    name = f"people-{number}"
    api = Socket("api", f"run/svc/people/app-{number}.sock", owner=name, group="people", mode=0o660)
    epochs = Socket("epochs", epochs_path(number), owner="pdp")
    return Own(name, sockets=(api, epochs), sees=(View("run/workload.sock"),), instance_of="people")


CONTROLS = frozenset(
    (
        # mesh
        *("strip-identity-headers", "reject-underscore-headers", "normalize-path", "verify-token-audience"),
        *("verify-token-issuer", "peer-allow-list", "rate-limit-ip", "request-size", "timeouts", "tls-version"),
        "sanitize-xfcc",
        # policy
        *("two-uri-sans", "rate-limit-person", "policy"),
        # people
        *("login-throttle", "refresh-rotation"),
    )
)
"""What `--unsafe-disable` can switch off."""
