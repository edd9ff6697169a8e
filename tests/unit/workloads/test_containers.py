"""Containers and units: read out of cgroups as the engines write them, and never out of names that a user chose."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.workloads.doubles import SigningSupervisor
from tests.unit.workloads.test_attestation import myself

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Unavailable
from rempart.workloads.attestation import Attestor
from rempart.workloads.containers import Container, container_in
from rempart.workloads.docker import DockerFacts, docker_selectors
from rempart.workloads.kubernetes import ATTEMPTS, KubernetesFacts, pod_selectors
from rempart.workloads.systemd import fragment_path

A, B = "a" * 64, "0123456789abcdef" * 4
POD = "72f7f152-440e-66ac-9084-e0fc1d8a910c"
UNDERSCORED = POD.replace("-", "_")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["/"], None),
        (["/user.slice/user-1000.slice/session-1.scope"], None),
        ([f"/docker/{A}"], Container(A, "")),
        ([f"/system.slice/docker-{A}.scope"], Container(A, "")),
        ([f"/docker/{A}", f"/docker/{A}", "/system.slice/containerd.service"], Container(A, "")),
        ([f"/kubepods/burstable/pod{POD}/{A}"], Container(A, POD)),
        (
            [
                f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/cri-containerd-{A}.scope"
            ],
            Container(A, POD),
        ),
        ([f"/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-{A}.scope"], Container(A, POD)),
        (
            [f"/system.slice/containerd.service/kubepods-burstable-pod{UNDERSCORED}.slice:cri-containerd:{A}"],
            Container(A, POD),
        ),
        ([f"/docker/{A}", f"/docker/{B}"], None),
        ([f"/docker/{A}/{B}"], None),
        ([f"/docker/{A}/kubepods/pod{POD}/{B}"], None),
        ([f"/kubepods/pod{POD}/pod{POD[:-1]}d/{A}"], None),
        ([f"/user.slice/user-1000.slice/user@1000.service/docker-{A}.scope"], None),
        ([f"/user.slice/user-1000.slice/user@1000.service/app.slice/kubepods/pod{POD}/{A}"], None),
        ([f"/../../docker/{A}"], None),
        ([f"/docker/{A}0"], None),
        ([f"/docker/{A.upper()}"], None),
    ],
)
def test_a_container_is_what_the_engines_name(paths: list[str], expected: Container | None) -> None:
    assert container_in(paths) == expected


INSPECTED: dict[str, Any] = {
    "Id": A,
    "Image": "sha256:" + "5" * 64,
    "State": {"Status": "running", "Running": True, "Pid": 4242},
    "Config": {
        "Image": "registry.example/batch:1.4",
        "Labels": {"com.example.team": "payments", "empty": ""},
        "Env": ["PATH=/usr/bin", "STAGE=prod", "ODD=a\x00b"],
    },
}
"""The members of "Inspect a container" (Docker Engine API 1.50) that are read here."""


def test_docker_facts_have_spires_names() -> None:
    assert {str(one) for one in docker_selectors(INSPECTED, Container(A, ""))} == {
        "docker:image_id:registry.example/batch:1.4",
        "docker:image_config_digest:sha256:" + "5" * 64,
        "docker:label:com.example.team:payments",
        "docker:label:empty:",
        "docker:env:PATH=/usr/bin",
        "docker:env:STAGE=prod",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"Id": B},
        {"State": {"Running": False}},
        {"State": None},
        {"Config": None},
        {"Config": []},
    ],
)
def test_another_container_or_one_that_ended_has_no_facts(change: dict[str, Any]) -> None:
    assert docker_selectors({**INSPECTED, **change}, Container(A, "")) == set()


@pytest.mark.parametrize("config", [{"Labels": None, "Env": None}, {"Labels": 1, "Env": "x", "Image": 5}])
def test_what_is_not_well_formed_gives_no_fact(config: dict[str, Any]) -> None:
    found = docker_selectors({**INSPECTED, "Config": config}, Container(A, ""))
    assert [one.kind for one in found] == ["image_config_digest"]


def pod(**more: Any) -> dict[str, Any]:
    """A running pod as the kubelet lists it (core/v1 Pod), with what is read here."""
    return {
        "metadata": {
            "name": "blog-24ck7",
            "namespace": "prod",
            "uid": POD,
            "labels": {"app": "blog", "tier": "web"},
            "ownerReferences": [{"kind": "ReplicationController", "name": "blog", "uid": "2c401175"}],
        },
        "spec": {"nodeName": "node-1", "serviceAccountName": "blog"},
        "status": {
            "initContainerStatuses": [
                {"name": "prepare", "image": "init:1", "imageID": "init@sha256:1", "containerID": f"containerd://{B}"}
            ],
            "containerStatuses": [
                {
                    "name": "web",
                    "image": "docker.io/envoyproxy/envoy:v1.30",
                    "imageID": "docker.io/envoyproxy/envoy@sha256:bf862e5f",
                    "containerID": f"containerd://{A}",
                    "state": {"running": {}},
                }
            ],
        },
        **more,
    }


def test_kubernetes_facts_have_spires_names() -> None:
    assert {str(one) for one in pod_selectors([pod()], Container(A, POD))} == {
        "k8s:ns:prod",
        "k8s:sa:blog",
        "k8s:node-name:node-1",
        f"k8s:pod-uid:{POD}",
        "k8s:pod-name:blog-24ck7",
        "k8s:pod-image-count:1",
        "k8s:pod-init-image-count:1",
        "k8s:container-name:web",
        "k8s:container-image:docker.io/envoyproxy/envoy:v1.30",
        "k8s:container-image:docker.io/envoyproxy/envoy@sha256:bf862e5f",
        "k8s:pod-image:docker.io/envoyproxy/envoy:v1.30",
        "k8s:pod-image:docker.io/envoyproxy/envoy@sha256:bf862e5f",
        "k8s:pod-init-image:init:1",
        "k8s:pod-init-image:init@sha256:1",
        "k8s:pod-label:app:blog",
        "k8s:pod-label:tier:web",
        "k8s:pod-owner:ReplicationController:blog",
        "k8s:pod-owner-uid:ReplicationController:2c401175",
    }


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [pod(), pod()],
        [pod(metadata={**pod()["metadata"], "uid": POD[:-1] + "0"})],
        [pod(status={"containerStatuses": []})],
        [pod(status={"containerStatuses": None})],
        [pod(status=None)],
        [{}],
    ],
    ids=["none", "two", "other-pod", "not-started", "null", "no-status", "empty"],
)
def test_a_container_in_no_pod_or_another_or_two_has_no_facts(pods: list[dict[str, Any]]) -> None:
    assert pod_selectors(pods, Container(A, POD)) == set()


class Pods:
    def __init__(self, *answers: list[dict[str, Any]] | Unavailable) -> None:
        self.answers, self.asked = list(answers), 0

    async def pods(self) -> list[dict[str, Any]]:
        self.asked += 1
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Unavailable):
            raise answer
        return answer


def test_a_container_that_has_just_started_is_looked_for_again_and_callers_share_a_question() -> None:
    async def main() -> None:
        late = Pods([], [], [pod()])
        facts = KubernetesFacts(late, pause=0)
        found = await asyncio.gather(*(facts.of(Container(A, POD)) for _ in range(5)))
        assert all(found)
        assert late.asked == 3
        never = Pods([])
        assert await KubernetesFacts(never, pause=0).of(Container(A, POD)) == set()
        assert never.asked == ATTEMPTS
        down = Pods(Unavailable("no_answer", "nobody"))
        assert await KubernetesFacts(down, pause=0).of(Container(A, POD)) == set()
        assert down.asked == 1
        assert await KubernetesFacts(down, pause=0).of(Container(A, "")) == set()
        assert down.asked == 1

    asyncio.run(main())


class Engine:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def container(self, container_id: str) -> dict[str, Any]:
        self.asked.append(container_id)
        return INSPECTED


def attested(tmp_path: Path, cgroup: str, *wanted: tuple[str, str]) -> tuple[set[str], list[str]]:
    """This process, with a /proc that says that it is in `cgroup`, and units of its own."""
    me = tmp_path / "proc" / str(os.getpid())
    me.mkdir(parents=True)
    (me / "cgroup").write_text(cgroup)
    (me / "status").write_text("Name:\tx\nGroups:\t4 27 4242424 \n")
    engine, process = Engine(), myself()
    supervisor: Any = SigningSupervisor(ManualClock())
    attestor = Attestor(supervisor, str(tmp_path / "proc"), containers=[DockerFacts(engine)], root=str(tmp_path))
    try:
        facts = asyncio.run(attestor.attest(process, wanted=wanted))
    finally:
        process.close()
    return {str(one) for one in facts.selectors}, engine.asked


def test_an_engine_is_asked_only_when_an_entry_asks_for_its_facts(tmp_path: Path) -> None:
    found, asked = attested(tmp_path, f"0::/system.slice/docker-{A}.scope\n", ("docker", "label"))
    assert asked == [A]
    assert "docker:label:com.example.team:payments" in found
    assert f"systemd:id:docker-{A}.scope" in found


def test_otherwise_it_is_not(tmp_path: Path) -> None:
    found, asked = attested(tmp_path, f"0::/docker/{A}\n", ("unix", "uid"))
    assert asked == []
    assert not [one for one in found if one.startswith("docker:")]


def test_supplementary_groups(tmp_path: Path) -> None:
    found, _ = attested(tmp_path, "0::/\n", ("unix", "supplementary_group"))
    assert {"unix:supplementary_gid:4", "unix:supplementary_gid:27", "unix:supplementary_gid:4242424"} <= found
    assert {"unix:supplementary_group:adm", "unix:supplementary_group:sudo"} <= found


def units(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("[Service]\n")


def test_the_fragment_is_the_first_of_the_load_path(tmp_path: Path) -> None:
    units(
        tmp_path,
        "usr/lib/systemd/system/batch.service",
        "etc/systemd/system/batch.service",
        "usr/lib/systemd/system/web@.service",
    )
    found, _ = attested(tmp_path, "0::/system.slice/batch.service\n", ("systemd", "fragment_path"))
    assert "systemd:fragment_path:/etc/systemd/system/batch.service" in found
    root = str(tmp_path)
    assert fragment_path("web@blog.service", root) == "/usr/lib/systemd/system/web@.service"
    units(tmp_path, "etc/systemd/system/web@blog.service")
    assert fragment_path("web@blog.service", root) == "/etc/systemd/system/web@blog.service"
    assert fragment_path("none.service", root) is None


def test_a_linked_unit_is_what_it_leads_to_and_a_masked_one_is_nothing(tmp_path: Path) -> None:
    units(tmp_path, "opt/app.service", "usr/lib/systemd/system/masked.service", "etc/systemd/system/x.service")
    (tmp_path / "etc/systemd/system/app.service").symlink_to(tmp_path / "opt/app.service")
    (tmp_path / "etc/systemd/system/masked.service").symlink_to("/dev/null")
    assert fragment_path("app.service", str(tmp_path)) == "/opt/app.service"
    assert fragment_path("masked.service", str(tmp_path)) is None
