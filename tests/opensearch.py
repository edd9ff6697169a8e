"""A private OpenSearch with its security plugin: TLS, users and roles are real. For `make interop`: it is downloaded
from Maven once (into Maven's own cache, 90 MB) and takes half a minute and 600 MB to start."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.sink_certificates import Pki, make_pki
from tests.support import eventually, free_port, short_directory

_SERVER = ("org.opensearch.distribution.integ-test-zip", "opensearch", "2.11.1")
_SECURITY = ("org.opensearch.plugin", "opensearch-security", "2.11.1.0")
_GET = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get"
_CONFIG = """\
discovery.type: single-node
network.host: 127.0.0.1
http.port: {port}
transport.port: {transport}
path.data: {directory}/data
path.logs: {directory}/logs
plugins.security.ssl.transport.pemcert_filepath: node.pem
plugins.security.ssl.transport.pemkey_filepath: node.key
plugins.security.ssl.transport.pemtrustedcas_filepath: ca.pem
plugins.security.ssl.transport.enforce_hostname_verification: false
plugins.security.ssl.http.enabled: true
plugins.security.ssl.http.pemcert_filepath: node.pem
plugins.security.ssl.http.pemkey_filepath: node.key
plugins.security.ssl.http.pemtrustedcas_filepath: ca.pem
plugins.security.ssl.http.clientauth_mode: OPTIONAL
plugins.security.allow_unsafe_democertificates: false
plugins.security.allow_default_init_securityindex: false
plugins.security.authcz.admin_dn: ["CN=admin.example"]
plugins.security.nodes_dn: ["CN=node.example"]
"""


@dataclass
class OpenSearch:
    url: str
    pki: Pki
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def admin(self) -> httpx.Client:
        """The cluster's administrator, by certificate."""
        context = ssl.create_default_context(cafile=self.pki.path("ca.pem"))
        context.load_cert_chain(self.pki.path("admin.pem"), self.pki.path("admin.key"))
        return httpx.Client(base_url=self.url, verify=context, timeout=30)

    def start(self) -> None:
        home = self.directory / "opensearch"
        environment = {
            **{name: value for name, value in os.environ.items() if name != "JAVA_TOOL_OPTIONS"},
            "OPENSEARCH_JAVA_OPTS": "-Xms512m -Xmx512m",
            "OPENSEARCH_JAVA_HOME": str(Path(shutil.which("java") or "/").resolve().parent.parent),
        }
        command = [str(home / "bin" / "opensearch")]
        if os.geteuid() == 0:  # it refuses to run as root
            command = ["runuser", "-u", "nobody", "--", *command]
            subprocess.run(["chown", "-R", "nobody", str(self.directory)], check=True)
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command, env=environment, cwd=home, stdout=output, stderr=output, start_new_session=True
            )

        def answers() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                pytest.fail((self.directory / "output").read_text()[-2000:])
            with contextlib.suppress(httpx.HTTPError), self.admin() as admin:
                return admin.get("/_cluster/health").status_code in (200, 503)
            return False

        eventually(answers, within=110, every=0.5)

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, how)
            self.process.wait(60)
            self.process = None


def _artifact(group: str, name: str, version: str) -> Path:
    """From Maven's cache, or downloaded into it. Skips the test where that can't be."""
    path = Path.home() / ".m2/repository" / group.replace(".", "/") / name / version / f"{name}-{version}.zip"
    if not path.exists():
        if shutil.which("mvn") is None:
            pytest.skip("Maven is not installed (Debian: maven)")
        done = subprocess.run(
            ["mvn", "-q", "-B", _GET, f"-Dartifact={group}:{name}:{version}:zip", "-Dtransitive=false"],
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"{name} {version} can't be had from Maven")
    return path


@contextlib.contextmanager
def private_opensearch() -> Iterator[OpenSearch]:
    if shutil.which("java") is None:
        pytest.skip("there is no Java (Debian: openjdk-17-jdk-headless)")
    server, security = _artifact(*_SERVER), _artifact(*_SECURITY)
    with short_directory("os") as directory:
        directory.chmod(0o755)
        with zipfile.ZipFile(server) as archive:
            archive.extractall(directory)
        home = directory / "opensearch"
        next(directory.glob("opensearch-*")).rename(home)
        for program in (home / "bin").iterdir():
            program.chmod(0o755)
        with zipfile.ZipFile(security) as archive:
            archive.extractall(home / "plugins" / "opensearch-security")
        (home / "plugins" / "opensearch-security" / "config").rename(home / "config" / "opensearch-security")
        pki = make_pki(home / "config", "node", "admin")
        port = free_port()
        (home / "config" / "opensearch.yml").write_text(
            _CONFIG.format(port=port, transport=free_port(), directory=directory)
        )
        found = OpenSearch(f"https://localhost:{port}", pki, directory)
        try:
            found.start()
            _initialise(found, home)
            yield found
        finally:
            found.stop(signal.SIGKILL)


def _initialise(found: OpenSearch, home: Path) -> None:
    """Load the plugin's own example configuration, as its `securityadmin.sh` does."""
    plugin = home / "plugins" / "opensearch-security"
    classes = f"{plugin}/*:{home}/lib/*"
    port = found.url.rpartition(":")[2]
    certificates = {"-cacert": "ca.pem", "-cert": "admin.pem", "-key": "admin.key"}
    options = ["-cd", str(home / "config" / "opensearch-security"), "-icl", "-nhnv", "-h", "localhost", "-p", port]
    options += [word for option, name in certificates.items() for word in (option, found.pki.path(name))]
    tool = ["java", "-cp", classes, "org.opensearch.security.tools.SecurityAdmin"]
    subprocess.run([*tool, *options], check=True, capture_output=True, timeout=90)
