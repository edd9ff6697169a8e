"""From "start this application" to a supervisor in a process of its own that reports over a pipe.

`prepare` checks everything that can be wrong before anything is started, and has the master key. `start_supervisor`
then starts `supervise.py`, which gets the plan and keys derived from that one; the caller becomes the face (it prints,
waits, forwards Ctrl-C).
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import rempart
from rempart.kernel.errors import BadInput, Unavailable
from rempart.wiring.catalog import CONTROLS
from rempart.wiring.plan import Options, Roots, make_plan
from rempart.wiring.plan_model import Plan
from rempart.wiring.ports import Ports
from rempart.wiring.settings import AppSettings, load

from .disk_upstream import DiskUpstream
from .keys_at_start import ensure_roots, sealing_key, supervisor_keys
from .leftovers import kill_leftovers
from .master_key import master_key
from .port_claims import PortClaims
from .root_store import RootStore
from .spawn import memory_file
from .state_files import StateDirectory
from .supervise import Told
from .supervisor_keys import SupervisorKeys

if TYPE_CHECKING:
    from .host_joining import HostRequest

PROFILES = ("dev", "production")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the operator asked for. `settings`: instead of those in `app_dir`, to issue identities and nothing else."""

    state: Path
    app_dir: Path = Path()
    settings: AppSettings | None = None
    profile: str = "dev"
    listen: tuple[str, int] | None = None
    unsafe_disabled: tuple[str, ...] = ()
    elsewhere: HostRequest | None = None
    """This is another host of the application than the gateway's."""


@dataclass(frozen=True, slots=True)
class Prepared:
    plan: Plan
    state: StateDirectory
    keys: SupervisorKeys
    upstream: DiskUpstream | None
    claims: PortClaims


def prepare(request: Request) -> Prepared:
    """Hold the state directory, read the settings, make the plan. Raises RempartError; nothing runs yet."""
    if request.profile not in PROFILES:
        raise BadInput("bad_profile", f"there is no profile {request.profile!r}", f"choose {' or '.join(PROFILES)}")
    if request.unsafe_disabled and request.profile != "dev":
        raise BadInput("unsafe_in_production", "--unsafe-disable is for the dev profile", "leave it out")
    if unknown := sorted(set(request.unsafe_disabled) - CONTROLS):
        raise BadInput("no_control", f"there is no control {unknown[0]!r}", f"there are: {', '.join(sorted(CONTROLS))}")
    app = request.settings or load(request.app_dir)
    state = StateDirectory(request.state.resolve())
    state.open()
    try:
        return _prepare(request, app, state)
    except BaseException:
        state.close()
        raise


def _prepare(request: Request, app: AppSettings, state: StateDirectory) -> Prepared:
    remembered = state.remembered
    if remembered.trust_domain not in ("", app.trust_domain):
        raise BadInput(
            "other_trust_domain",
            f"{state.path} was made for the trust domain {remembered.trust_domain}, not {app.trust_domain}",
            "name another directory with --state",
        )
    if remembered.app not in ("", app.name):
        raise BadInput(
            "other_application",
            f"{state.path} holds the state of the application {remembered.app!r}, not of {app.name!r}",
            "name another directory with --state",
        )
    remembered.trust_domain, remembered.app = app.trust_domain, app.name
    kill_leftovers(remembered.instance, [(pid, started) for pid, started in remembered.running.values()])
    for name in ("secrets", "tls", "trust", "logs"):
        (state.path / name).mkdir(mode=0o700, exist_ok=True)
    state.save()
    master = master_key(state.path, request.profile)
    disk = app.workloads.upstream
    upstream = None
    if disk and request.elsewhere is None:
        upstream = DiskUpstream(disk.cert, disk.key, disk.bundle, app.trust_domain)
    elsewhere, roots = None, Roots(spiffe="", web="")
    if request.elsewhere is not None:
        from .host_joining import join_host  # an agent's modules are 13 MB, which other supervisors don't need

        elsewhere = join_host(request.elsewhere, app, state, master)
    else:
        roots = ensure_roots(RootStore(state.path, upstream), app.trust_domain, sealing_key(master))
    wanted = {app.listen_port, *(service.port for service in app.services if service.port)}
    options = Options(
        state=state.path,
        profile=request.profile,
        listen=request.listen,
        unsafe_disabled=request.unsafe_disabled,
        identities_only=request.settings is not None,
        elsewhere=elsewhere,
        operator_uid=os.geteuid(),
        python=str(Path(sys.prefix).resolve() / "bin" / "python"),
    )
    if os.geteuid() == 0:
        _check_readable(Path(sys.prefix).resolve(), Path(rempart.__file__).parent)
        _compile_own_modules()
    claims = PortClaims()
    plan = make_plan(app, options, Ports(remembered.ports, wanted, claims.free), roots)
    for purpose, (host, port) in plan.tcp_ports.items():
        if not claims.free(host, port):
            raise _port_taken(purpose, host, port)
    keys = supervisor_keys(master, [process.name for process in plan.processes])
    return Prepared(plan, state, keys, upstream, claims)


def _check_readable(environment: Path, package: Path) -> None:
    """Processes with users of their own must be able to read what they run. Raises Unavailable `unreadable_program`."""
    for path, bits in ((environment / "bin", 0o005), (package, 0o005), (package / "__init__.py", 0o004)):
        if path.stat().st_mode & bits != bits:
            top = os.path.commonpath((environment, package))
            raise Unavailable(
                "unreadable_program",
                f"as root every process runs under a user of its own, and other users can't read {path}",
                f"chmod -R go+rX {top} (a checkout made with umask 077 needs that once), or run it as that user",
            )


def _compile_own_modules() -> None:
    """Processes with users of their own can't write bytecode: without it each start compiles what was edited again."""
    import compileall

    with contextlib.suppress(OSError):
        compileall.compile_dir(str(Path(rempart.__file__).parent), quiet=2)


def _port_taken(purpose: str, host: str, port: int) -> Unavailable:
    if port < 1024 and os.geteuid() != 0:
        return Unavailable(
            "missing_rights", f"this user may not listen on port {port}, which {purpose} wants", "choose one above 1023"
        )
    remedy = f"stop who uses it (`ss -ltnp 'sport = :{port}'`)"
    other = "`rempart up --listen 127.0.0.1:0`" if purpose == "the gateway" else "another `port` in rempart.toml"
    return Unavailable("port_in_use", f"{host}:{port}, which {purpose} wants, is in use", f"{remedy}, or use {other}")


def start_supervisor(prepared: Prepared, *, detach: bool) -> tuple[int, int]:
    """The supervisor's pid, a child of this process, and the reading end of its reports.

    Unless `detach`, it stops in order when the caller dies.
    """
    read, write = os.pipe()
    told = Told(
        plan=prepared.plan,
        remembered=prepared.state.remembered,
        keys=prepared.keys,
        upstream=prepared.upstream,
        lock=prepared.state.lock,
        reports=write,
        claims=prepared.claims.descriptors,
        follows=None if detach else os.getpid(),
    )
    document = memory_file("supervisor", told.document())
    handed = (document, told.lock, write, *told.claims)
    for fd in handed:
        os.set_inheritable(fd, True)
    # -P: the directory that somebody happens to be in is no place to import from
    command = [sys.executable, "-P", "-m", Told.__module__, str(document), *sys.argv[1:]]
    pid = os.posix_spawn(command[0], command, os.environ, setsid=True)
    for fd in handed:
        os.set_inheritable(fd, False)
    for fd in (document, write):
        os.close(fd)
    return pid, read
