"""`rempart agent`: run the agent of this host, and administer a server's agents."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.clock import rfc3339
from rempart.kernel.errors import BadInput

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help="The agent of this host, and the agents of a server")
NameArgument = Annotated[
    str, typer.Argument(help="SPIFFE ID, or what follows /rempart/agent/ in it", show_default=False)
]


@app.command()
def run(  # nosec B107 - kubelet_token is the name of a file
    server: Annotated[list[str], typer.Option("--server", metavar="HOST:PORT", help="May be repeated: any of them")],
    trust_domain: Annotated[str, typer.Option(help="As in spiffe://TRUST_DOMAIN; with --app what that says")] = "",
    bundle: Annotated[
        Path | None, typer.Option(help="What to trust: `rempart bundle export` of the server's host, JSON or PEM")
    ] = None,
    insecure_bootstrap: Annotated[
        bool, typer.Option("--insecure-bootstrap", help="Trust whoever answers first, instead of --bundle")
    ] = False,
    join_token_file: Annotated[
        Path | None, typer.Option(help="File with a join token (`rempart agent token`); - for stdin")
    ] = None,
    x509pop: Annotated[
        tuple[Path, Path] | None, typer.Option("--x509pop", metavar="CERT KEY", help="Join by a certificate (PEM)")
    ] = None,
    svid: Annotated[
        tuple[Path, Path] | None, typer.Option("--svid", metavar="CERT KEY", help="Join by an existing X.509-SVID")
    ] = None,
    k8s: Annotated[
        tuple[str, Path] | None,
        typer.Option("--k8s", metavar="CLUSTER TOKEN", help="Join by a projected service-account token (file)"),
    ] = None,
    socket: Annotated[Path | None, typer.Option(help="Workload API; default run/workload.sock in the state")] = None,
    profile: Annotated[str, typer.Option(help="dev or production")] = "dev",
    docker_socket: Annotated[str, typer.Option(help="Docker's, for docker: selectors")] = "",
    kubelet: Annotated[str, typer.Option(metavar="URL", help="This node's, for k8s: selectors")] = "",
    kubelet_ca: Annotated[str, typer.Option(metavar="FILE")] = "",
    kubelet_token: Annotated[str, typer.Option(metavar="FILE")] = "",
    app_dir: Annotated[
        Path | None, typer.Option("--app", help="Run the programs that its rempart.toml puts on this [[host]], too")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="With --app: return when everything is ready")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Join the trust domain, and serve the Workload API and SDS to the processes of this host until Ctrl-C.

    Started again it is the same agent, and needs nothing to join with while its SVID is valid. A secret is never given
    as an argument: others can read those.
    """
    import uvloop

    from rempart.kernel.spiffe import parse_trust_domain
    from rempart.servers.agent_evidence import evidence_of
    from rempart.servers.workload_agent import AgentOptions
    from rempart.servers.workload_agent import run as run_agent

    if bundle is None and not insecure_bootstrap:
        raise BadInput(
            "no_bundle",
            "nothing says which server to trust",
            "give --bundle FILE (`rempart bundle export` on the server's host)",
        )
    directory = state_dir(state)
    evidence = _evidence(join_token_file, x509pop, svid, k8s)
    if insecure_bootstrap and bundle is None:
        say("UNSAFE: whoever answers first is trusted (--insecure-bootstrap)")
    if app_dir is not None:
        _run_services(app_dir, server, trust_domain, bundle, evidence, profile, directory, detach, as_json)
        return
    options = AgentOptions(
        servers=[_address(one) for one in server],
        trust_domain=parse_trust_domain(trust_domain),
        bundle=_bundle(bundle, trust_domain) if bundle else "",
        evidence=evidence_of(evidence),
        state=directory,
        socket=(socket or directory / "run" / "workload.sock").absolute(),
        profile=profile,
        docker_socket=docker_socket,
        kubelet_url=kubelet,
        kubelet_ca=kubelet_ca,
        kubelet_token=kubelet_token,
    )

    def ready(spiffe_id: str) -> None:
        if as_json:
            print_json({"spiffe_id": spiffe_id, "workload_api": f"unix://{options.socket}"})
        else:
            say(f"{spiffe_id} serves unix://{options.socket}")

    uvloop.run(run_agent(options, ready))


def _run_services(
    app_dir: Path,
    server: Sequence[str],
    trust_domain: str,
    bundle: Path | None,
    evidence: Sequence[str],
    profile: str,
    state: Path,
    detach: bool,
    as_json: bool,
) -> None:
    from rempart.servers.host import Request, prepare
    from rempart.servers.host_joining import HostRequest
    from rempart.wiring.settings import load

    from .supervised import attend

    began = time.monotonic()
    settings = load(app_dir)
    if trust_domain not in ("", settings.trust_domain):
        why = f"{app_dir} is of the trust domain {settings.trust_domain}, not {trust_domain}"
        raise BadInput("other_trust_domain", why, "leave --trust-domain out")
    joining = HostRequest(
        servers=[_address(one) for one in server],
        bundle=_bundle(bundle, settings.trust_domain) if bundle else "",
        evidence=evidence,
    )
    prepared = prepare(Request(state=state, app_dir=app_dir, profile=profile, elsewhere=joining))

    def tell(status: dict[str, Any]) -> None:
        if as_json:
            print_json(status)
            return
        for service in status["services"]:
            say(f"{service['name']} serves {service['mtls']}")
        say(f"ready: {len(status['services'])} services of {status['app']} on this host")

    attend(prepared, began, detach=detach, tell=tell)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput("bad_address", f"{text[:80]!r} is no address of a server", "write HOST:PORT")
    return host.strip("[]"), int(port)


def _bundle(file: Path, trust_domain: str) -> str:
    """A SPIFFE bundle (JSON); from PEM made into one."""
    from rempart.servers.agent_evidence import read

    text = read(file).decode("utf-8", "replace")
    if "-----BEGIN CERTIFICATE-----" not in text:
        return text
    from rempart.crypto.x509 import Certificate, pem_to_ders
    from rempart.workloads.agents.messages import encode
    from rempart.workloads.model import Bundle
    from rempart.workloads.workload_api import spiffe_bundle

    roots = tuple(map(Certificate.parse, pem_to_ders(text)))
    return encode(spiffe_bundle(Bundle(trust_domain, roots, (), 0))).decode()


def _evidence(
    token_file: Path | None,
    x509pop: tuple[Path, Path] | None,
    svid: tuple[Path, Path] | None,
    k8s: tuple[str, Path] | None,
) -> list[str]:
    """As `servers.agent_evidence` reads it. Paths are made absolute."""
    ways: list[tuple[str, tuple[str | Path, ...]]] = []
    for way, shown in (("x509pop", x509pop), ("svid", svid), ("k8s", k8s)):
        if shown is not None:
            ways.append((way, shown))
    if token_file is not None:
        ways.append(("join_token", (token_file,)))
    if len(ways) > 1:
        remedy = "choose one of --join-token-file, --x509pop, --svid, --k8s"
        raise BadInput("bad_usage", "an agent joins in one way", remedy)
    return [word for way, shown in ways for word in (way, *map(_absolute, shown))]


def _absolute(shown: str | Path) -> str:
    return str(shown.absolute() if isinstance(shown, Path) and str(shown) != "-" else shown)


@app.command()
def token(
    ttl: Annotated[float, typer.Option(help="Seconds in which it can be used")] = 600,
    name: Annotated[str, typer.Option(help="The agent becomes …/join_token/NAME; default: a random one")] = "",
    write: Annotated[Path | None, typer.Option("--write", help="Into this file (0600), instead of to stdout")] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """A join token for one agent: good once. Entries for that agent name its id as their parent_id."""
    file = _new_file(write) if write is not None else None
    try:
        made = call(state_dir(state), "identity", "POST", "/agents/tokens", {"ttl": ttl, "name": name})
    except BaseException:
        if file is not None and write is not None:
            os.close(file)
            write.unlink(missing_ok=True)
        raise
    if file is not None:
        with open(file, "w") as opened:
            opened.write(made.pop("token") + "\n")
    if as_json:
        print_json(made)
        return
    say(f"for {made['spiffe_id']}, until {rfc3339(made['expires_at'])}")
    if write is None:
        print(made["token"])


def _new_file(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = f"{path} can't be written: {error.strerror}"
        raise BadInput("unwritable_file", why, "name a file that is not there yet") from None


@app.command(name="list")
def list_(state: StateOption = None, as_json: JsonOption = False) -> None:
    """The agents that this server knows."""
    answer = call(state_dir(state), "identity", "GET", "/agents")
    if as_json:
        print_json(answer)
        return
    now = time.time()
    print_table(
        ["agent", "joined by", "joined", "SVID until", "state"],
        [
            (
                agent["spiffe_id"],
                agent["method"],
                rfc3339(agent["joined_at"]),
                rfc3339(agent["expires_at"]),
                "banned" if agent["banned"] else "expired" if agent["expires_at"] < now else "",
            )
            for agent in answer["agents"]
        ],
    )


@app.command()
def show(name: NameArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """One agent, and the entries that are its own, those of its node aliases among them."""
    agent = call(state_dir(state), "identity", "GET", f"/agents/{quote(name, safe='')}")
    if as_json:
        print_json(agent)
        return
    for key in ("spiffe_id", "method", "serial", "banned"):
        print(f"{key}: {agent[key]}")
    for key in ("joined_at", "expires_at"):
        print(f"{key}: {rfc3339(agent[key])}")
    for fact in agent["facts"]:
        print(f"fact: {fact}")
    print_table(
        ["id", "SPIFFE ID", "selectors"],
        [(e["id"], e["spiffe_id"], " ".join(e["selectors"])) for e in agent["entries"]],
    )


@app.command()
def ban(name: NameArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Refuse it everything: its workloads get nothing new, and an honest agent stops serving at once."""
    _done(call(state_dir(state), "identity", "POST", f"/agents/ban/{quote(name, safe='')}"), "banned", as_json)


@app.command()
def unban(name: NameArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Lift a ban."""
    answer = call(state_dir(state), "identity", "POST", f"/agents/unban/{quote(name, safe='')}")
    _done(answer, "no longer banned:", as_json)


@app.command()
def evict(name: NameArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Forget it: it has to join again, what its SVID could do ends now, and join tokens open for it are void."""
    answer = call(state_dir(state), "identity", "DELETE", f"/agents/{quote(name, safe='')}")
    _done(answer["evicted"], "evicted", as_json)


@app.command()
def status(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Of the agent that runs on this host. Exit code 1 when its server is away, or refuses it."""
    directory = state_dir(state)
    among_services = "run/admin/host-agent.sock"
    where = among_services if (directory / among_services).exists() else "run/agent.sock"
    answer = call(directory, "agent", "GET", "/status", socket=where)
    if as_json:
        print_json(answer)
    else:
        for key, value in answer.items():
            print(f"{key}: {rfc3339(value) if key.endswith(('_at', '_since')) and value else value}")
    if answer["server_away_since"] or answer["refused"] or not answer["spiffe_id"]:
        raise SystemExit(1)


def _done(agent: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        print_json(agent)
    else:
        say(f"{what} {agent['spiffe_id']}")
