"""From "start this application" to a supervisor in a process of its own that reports over a pipe.

`prepare` checks everything that can be wrong before anything is started. `fork_supervisor` then leaves the caller as
the face (it prints, waits, forwards Ctrl-C) and makes the child the supervisor. The pipe carries JSON lines:
`{"progress": NAME, "seconds"}`, `{"ready": STATUS}`, `{"failed": {"code", "reason", "remedy", "exit"}}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rempart
from rempart.kernel.errors import BadInput, RempartError, Unavailable
from rempart.wiring.catalog import CONTROLS
from rempart.wiring.plan import Options, Roots, make_plan
from rempart.wiring.plan_model import Plan
from rempart.wiring.ports import Ports
from rempart.wiring.settings import AppSettings, load

from .disk_upstream import DiskUpstream
from .key_material import KeyMaterial, ensure_roots, master_key
from .leftovers import kill_leftovers
from .port_claims import PortClaims
from .state_files import StateDirectory

if TYPE_CHECKING:
    from .host_joining import HostRequest

PROFILES = ("dev", "production")
_PR_SET_PDEATHSIG = 1


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
    keys: KeyMaterial
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
        roots = ensure_roots(state.path, app.trust_domain, master, upstream)
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
    return Prepared(plan, state, KeyMaterial(state.path, app.trust_domain, master, upstream), claims)


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


class Reports:
    """The writing end of the pipe. The face may go away; the supervisor goes on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def send(self, line: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._fd, json.dumps(line).encode() + b"\n")

    def failed(self, error: RempartError) -> None:
        self.send(
            {
                "failed": {
                    "code": error.code,
                    "reason": error.reason,
                    "remedy": error.remedy,
                    "exit": error.exit_code,
                }
            }
        )


def fork_supervisor(prepared: Prepared, *, detach: bool) -> tuple[int, int]:
    """The supervisor's pid and the reading end of its reports. Call it from a process with one thread.

    Unless `detach`, the supervisor stops in order when the caller dies.
    """
    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    status = 70
    try:
        os.close(read)
        os.setsid()
        if not detach:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(0)
        status = _supervise(prepared, Reports(write))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _supervise(prepared: Prepared, reports: Reports) -> int:
    """The exit code of the supervisor."""
    _redirect(prepared.plan.state / "logs" / "supervisor.log")
    prepared.state.claim()
    from .after_start import demo_accounts
    from .supervisor import Supervisor

    supervisor = Supervisor(
        prepared.plan,
        prepared.state,
        prepared.keys,
        lambda name, seconds: reports.send({"progress": name, "seconds": round(seconds, 3)}),
    )

    async def after_start() -> None:
        if prepared.plan.profile == "dev" and prepared.plan.gateway_url:
            supervisor.demo_accounts = await demo_accounts(prepared.plan.state)
        supervisor.ready = True
        reports.send({"ready": supervisor.status()})

    try:
        asyncio.run(supervisor.run(after_start))
    except RempartError as error:
        reports.failed(error)
        return error.exit_code
    except OSError as error:
        reports.failed(Unavailable("start_failed", f"the supervisor stopped: {error}", "see logs/supervisor.log"))
        return 3
    finally:
        prepared.state.close()
    return 0


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(nothing)
    os.close(out)
    os.chdir("/")
