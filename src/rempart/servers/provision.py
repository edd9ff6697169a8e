"""What processes find when they start: directories, bound sockets, Envoy configurations, and their launch documents."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rempart
from rempart.kernel.errors import BadInput
from rempart.wiring.catalog import MOST_INSTANCES, instance_names
from rempart.wiring.plan_model import OPERATOR, Kind, Plan, Probe, Process
from rempart.wiring.plan_model import Socket as SocketSpec
from rempart.wiring.tracing_environment import application_environment

from .spawn import Ids, Launch, memory_file
from .state_files import StateDirectory, disk_error, write_file
from .view import covers, view

_PIPE_BYTES = 1 << 20
_BACKLOG = 1024


class Provisions:
    """Created once per start of the supervisor. `keys`: that of each process, by its name. `drop`: every process gets a
    user of its own; `confine`: and a view."""

    def __init__(
        self, plan: Plan, state: StateDirectory, keys: Mapping[str, bytes], *, drop: bool, confine: bool
    ) -> None:
        self.plan, self.state, self.keys = plan, state, keys
        self.drop, self.confine = drop, confine
        self.sockets: dict[str, socket.socket] = {}
        self.pipes: dict[str, tuple[int, int]] = {}

    def create(self) -> None:
        """Everything on disk, and all listening sockets. Raises a RempartError for disk and rights."""
        try:
            if self.drop and not self.confine:  # no view: the way to each process's own files leads through here
                os.chmod(self.plan.state, 0o711)  # nosec B103 - others may pass, and list nothing
            for directory in self.plan.directories:
                path = self.plan.state / directory.path
                path.mkdir(mode=0o700, exist_ok=True)
                self._own(path, directory.owner, directory.group, directory.mode)
            self._remove_stale_sockets()
            for process in self.plan.processes:
                for spec in process.sockets:
                    self.sockets[spec.path] = self._listen(spec)
                if process.config is not None:
                    path = self.plan.state / "envoy" / f"{process.subject}.json"
                    write_file(path, json.dumps(process.config).encode(), 0o644)
                    self._pipe(process.name)
        except OSError as error:
            raise disk_error(error, f"preparing {self.plan.state}") from None

    def close(self) -> None:
        for path, listening in self.sockets.items():
            listening.close()
            (self.plan.state / path).unlink(missing_ok=True)
        for ends in self.pipes.values():
            for fd in ends:
                os.close(fd)
        self.sockets, self.pipes = {}, {}

    def listen(self, spec: SocketSpec) -> socket.socket:
        """A socket for the supervisor itself."""
        listening = self._listen(spec)
        self.sockets[spec.path] = listening
        return listening

    def _remove_stale_sockets(self) -> None:
        """Sockets left by a supervisor that was killed, those that programs bound themselves among them."""
        for path in (self.plan.state / "run").rglob("*"):
            if path.is_socket():
                path.unlink()

    def _ids(self, owner: str, group: str) -> tuple[int, int]:
        if not self.drop:
            return -1, -1
        uid = os.geteuid() if owner == OPERATOR else self.state.uid(owner)
        gid = os.getegid() if group == OPERATOR else self.state.uid(group)
        return uid, gid

    def _own(self, path: Path, owner: str, group: str, mode: int) -> None:
        uid, gid = self._ids(owner, group)
        if self.drop:
            facts = path.lstat()
            if (facts.st_uid, facts.st_gid) != (uid, gid):
                os.chown(path, uid, gid, follow_symlinks=False)
                if path.is_dir() and facts.st_uid != os.geteuid():  # the state moved between hosts: users changed
                    _chown_below(path, uid, gid)
        os.chmod(path, mode)

    def _listen(self, spec: SocketSpec) -> socket.socket:
        if spec.tcp is not None:
            family = socket.AF_INET6 if ":" in spec.tcp[0] else socket.AF_INET
            return socket.create_server(spec.tcp, family=family, backlog=_BACKLOG)
        path = self.plan.state / spec.path
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        uid, gid = self._ids(spec.owner, spec.group)
        if self.drop:
            os.chown(path, uid, gid)
        # Others reach a socket of mode 0666 only as root, where each process sees nothing but its own parts.
        os.chmod(path, spec.mode if self.drop else spec.mode & 0o700)
        listening.listen(_BACKLOG)
        return listening

    def _pipe(self, name: str) -> None:
        """Both ends stay open here, so that writer and reader may restart without losing what is in between."""
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self.pipes[name] = (read, write)

    def launch(self, process: Process, ready_fd: int | None, cwd: Path | None = None) -> tuple[Launch, list[int]]:
        """The launch document, and descriptors to close once the process has been spawned."""
        fds: list[int] = []
        env = self._environment(process)
        opened: list[int] = []
        if process.settings is not None:
            names = [spec.name for spec in process.sockets]
            fds = [self.sockets[spec.path].fileno() for spec in process.sockets]
            boot = 3 + len(fds)
            settings = dict(process.settings)
            if settings.get("spire"):
                settings["spire"] = {**settings["spire"], "users": self._users()}
            logs = self._access_logs() if process.reads_access_logs else {}
            if logs:
                settings["access_logs"] = {name: boot + 2 + index for index, name in enumerate(logs)}
            opened.append(memory_file("boot", self._boot_document(process, settings)))
            fds += [opened[0], ready_fd if ready_fd is not None else opened[0], *logs.values()]
            env |= {
                "LISTEN_FDS": str(len(names)),
                "LISTEN_FDNAMES": ",".join(names),
                "REMPART_BOOT_FD": str(boot),
                "REMPART_READY_FD": str(boot + 1),
            }
        argv = (_program(process.command[0], env["PATH"], process.cwd), *process.command[1:]) if process.command else ()
        return (
            Launch(
                argv=argv,
                env=env,
                cwd=str(cwd or process.cwd or "/"),
                fds=tuple(fds),
                parent=os.getpid() if process.supervised or process.kind is Kind.SYSTEM else 0,
                umask=0o007 if self.drop else 0o077,
                ids=self._process_ids(process),
                low_port=process.name == "gateway" and self.plan.listen[1] < 1024,
                view=self._view(process, argv, cwd) if self.confine else None,
            ),
            opened,
        )

    def _access_logs(self) -> dict[str, int]:
        """Envoy's name → read end, by subject."""
        return {p.subject: self.pipes[p.name][0] for p in self.plan.processes if p.name in self.pipes}

    def _boot_document(self, process: Process, settings: Mapping[str, Any]) -> bytes:
        state = self.plan.state
        document = {
            "name": process.name,
            "data_dir": str(state / "data" / process.name),
            "journal_dir": str(state / "journals" / process.name),
            "run_dir": str(state / "run"),
            "settings": settings,
            "keys": {process.name: self.keys[process.name].hex()},
            "tracing": self.plan.tracing,
        }
        return json.dumps(document).encode()

    def _environment(self, process: Process) -> dict[str, str]:
        home = str(self.plan.state / "data" / process.name)
        own = str(Path(sys.prefix) / "bin")
        env = {
            "PATH": os.pathsep.join([own, os.environ.get("PATH") or os.defpath]),
            "LANG": "C.UTF-8",
            "HOME": home if process.probe is not Probe.ENVOY else "/",
            "REMPART_INSTANCE": self.state.remembered.instance,
        }
        if process.probe is Probe.BOOT or process.kind is Kind.SERVICE:
            env["PYTHONUNBUFFERED"] = "1"
        if self.drop:
            env["PYTHONDONTWRITEBYTECODE"] = "1"
        of_databases = process.name in ("identity", *instance_names(MOST_INSTANCES))
        for name in ("TZ", "NO_COLOR", *(("PGPASSFILE",) if of_databases else ())):
            if name in os.environ:
                env[name] = os.environ[name]
        if self.plan.tracing and process.kind in (Kind.SERVICE, Kind.CLIENT):
            env |= application_environment(self.plan.tracing, process.name)
        return {**env, **process.env}

    def _users(self) -> dict[str, int]:
        """The uid of every process. Raises BadInput `spire_needs_users` where all run as one user."""
        if not self.drop:
            raise BadInput(
                "spire_needs_users",
                "SPIRE tells processes apart by their users, and without root all of them are one user's",
                "run `rempart up` as root, which gives each process a user of its own",
            )
        return {process.name: self.state.uid(process.name) for process in self.plan.processes}

    def _process_ids(self, process: Process) -> Ids | None:
        if not self.drop:
            return None
        uid = self.state.uid(process.name)
        groups = [self.state.uid(group) for group in process.groups]
        if process.settings and (spire := process.settings.get("spire")):
            groups.append(_group_of(Path(spire["server_socket"])))
        return Ids(uid, uid, tuple(groups))

    def _view(self, process: Process, argv: tuple[str, ...], cwd: Path | None) -> dict[str, Any]:
        state = self.plan.state
        trees = {Path(sys.prefix), Path(sys.base_prefix), Path(rempart.__file__).parent.parent, self.plan.app_directory}
        for process_settings in (process.settings or {},):
            for name in ("policy_dir", "rules_dir", "geo_file"):
                if (given := process_settings.get(name)) and not Path(given).is_relative_to(state):
                    trees.add(Path(given))
        if argv:
            program = Path(argv[0]).resolve()
            trees.add(program.parent.parent if program.parent.name == "bin" else program)
        if cwd is not None:
            trees.add(cwd)
        resolved = {tree.resolve() for tree in trees} - {Path("/")}
        sees = [(str(state / one.path), one.writable) for one in process.sees]
        return view(state, sees, covers(resolved, state))


def _group_of(socket: Path) -> int:
    """The group that may use SPIRE's administrative socket. Raises BadInput `spire_socket`."""
    try:
        group = socket.stat().st_gid
    except OSError as error:
        raise BadInput("spire_socket", f"{socket}: {error.strerror}", "see that spire-server runs") from None
    if group == 0:
        raise BadInput(
            "spire_socket",
            f"{socket} belongs to the group of root, which Rempart gives to no process",
            "run spire-server with a group of its own",
        )
    return group


def _program(name: str, path: str, cwd: Path | None) -> str:
    """Where the program is; a relative path with a slash is meant from the application's directory."""
    if "/" in name and cwd is not None:
        name = str(cwd / name)
    found = shutil.which(name, path=path)
    if found is None:
        raise BadInput("no_program", f"the program {name!r} is not there or not executable", "correct `command`")
    return found


def _chown_below(path: Path, uid: int, gid: int) -> None:
    for directory, names, files in os.walk(path):
        for name in (*names, *files):
            os.chown(os.path.join(directory, name), uid, gid, follow_symlinks=False)
