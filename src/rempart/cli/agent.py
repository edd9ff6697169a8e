"""`rempart agent`: run the agent of this host, and administer a server's agents."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.clock import rfc3339
from rempart.kernel.errors import BadInput

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir
from .stay import stay

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
    if bundle is None and not insecure_bootstrap:
        raise BadInput(
            "no_bundle",
            "nothing says which server to trust",
            "give --bundle FILE (`rempart bundle export` on the server's host)",
        )
    directory = state_dir(state)
    stay(
        "staying_agent",
        server=server,
        trust_domain=trust_domain,
        bundle=bundle,
        evidence=_evidence(join_token_file, x509pop, svid, k8s),
        socket=(socket or directory / "run" / "workload.sock").absolute(),
        profile=profile,
        docker_socket=docker_socket,
        kubelet=(kubelet, kubelet_ca, kubelet_token),
        app_dir=app_dir,
        detach=detach,
        state=directory,
        as_json=as_json,
    )


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
