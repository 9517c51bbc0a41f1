"""Pipelines whose workers are pods of a real cluster."""

from __future__ import annotations

import pathlib
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from pachproto import pps_pb2
from tests.support import pipelines
from tests.support.daemons import commit
from tests.support.kubernetes.clusters import TestCluster
from tests.support.kubernetes.kube import COPY, GATE, Site, kill, mounts_of, site
from tests.support.pipelines import all_ended, atom, delete, flush, inspect, jobs, logs, until, update
from tests.support.places import TOOLS
from tools.cluster.layout import MACHINES
from tools.demo import photographs

SECONDS = 240.0
"""How long to wait for what takes seconds on a cluster that has a machine to itself."""
NODE = str(MACHINES[11])


@pytest.fixture
def there(
    tmp_path: pathlib.Path,
    cluster: TestCluster,
    namespace: str,
    own_image: str,
    busybox_image: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    """A daemon with an empty repo `in` and its workers in the cluster."""
    monkeypatch.setattr(pipelines, "LIMIT", SECONDS)
    with site(tmp_path, cluster, namespace, own_image, busybox_image) as made:
        made.daemon.create_repo("in")
        yield made


def create(there: Site, request: Any) -> None:
    there.daemon.pps.CreatePipeline(request)


def content(there: Site, at: Any, *, pipeline: str = "upper") -> dict[str, bytes]:
    """What came of a commit."""
    assert pipeline in [one.commit.repo.name for one in flush(there.daemon, at)]
    newest = commit(pipeline, "master")
    return {path: there.daemon.get(newest, path) for path in there.daemon.list(newest)}


def one_worker(there: Site, lines: list[str], **more: Any) -> Any:
    return there.spec(lines=lines, parallelism_spec={"constant": 1}, **more)


# --- what is computed


def test_four_workers_of_an_image_without_python_share_200_datums(there: Site) -> None:
    lines = [*COPY, "sleep 0.1", "echo did $(ls /pfs/in)"]
    create(there, there.spec(lines=lines, parallelism_spec={"constant": 4}))
    files = {f"f{number}": b"content %d" % number for number in range(200)}
    at = there.daemon.commit_files("in", files)
    assert content(there, at) == {name: data.upper() for name, data in files.items()}
    [job] = all_ended(there.daemon, 1)
    assert (job.data_processed, job.restart) == (200, 0)
    lines_of_users = [line for line in logs(there.daemon, job=job.job) if line.user]
    assert sorted(line.message for line in lines_of_users) == sorted(f"did {name}" for name in files)
    assert {line.worker_id for line in lines_of_users} == {pod.metadata.name for pod in there.pods()}
    assert len(there.pods()) == 4


def test_lazy_files_are_fetched_as_they_are_read(there: Site) -> None:
    lines = [
        "[ -p /pfs/in/large ] && ls -l /pfs/in >&2",
        "head -c 5 /pfs/in/small > /pfs/out/start",
        "ln -s /pfs/in/large /pfs/out/large",
    ]
    create(there, one_worker(there, lines, input=atom("in", "/", lazy=True)))
    large = bytes(range(256)) * (64 << 10)
    assert content(there, there.daemon.commit_files("in", {"large": large, "small": b"smaller"})) == {
        "start": b"small",
        "large": large,
    }
    [job] = all_ended(there.daemon, 1)
    assert job.stats.download_bytes == 7


def test_commands_find_the_specs_and_the_containers_environment(there: Site) -> None:
    body = client.V1Secret(metadata=client.V1ObjectMeta(name="key"), string_data={"word": "open sesame"})
    there.cluster.core.create_namespaced_secret(there.namespace, body)
    lines = ['echo "$WORD $PATH $(cat /secrets/key/word) $(id -u)" > /pfs/out/found']
    transform = {"env": {"WORD": "given"}, "secrets": [{"name": "key", "mount_path": "/secrets/key"}]}
    create(there, one_worker(there, lines, transform=transform, resource_spec={"memory": "64Mi", "cpu": 0.1}))
    at = there.daemon.commit_files("in", {"a": b""})
    assert content(there, at) == {"found": b"given /bin open sesame 0\n"}
    [user] = [one for one in there.pod().spec.containers if one.name == "user"]
    assert user.resources.requests == {"memory": str(64 << 20), "cpu": "100m"}


def test_without_an_image_commands_run_in_the_workers_own(there: Site) -> None:
    lines = ["python3 -c 'import sys; print(sys.version_info[0])' > /pfs/out/major"]
    create(there, one_worker(there, lines, transform={"image": ""}))
    assert content(there, there.daemon.commit_files("in", {"a": b""})) == {"major": b"3\n"}
    there.said("no image is given")


# --- what is lost on the way


def test_a_pod_that_is_killed_at_work_is_replaced_and_loses_its_datum_to_the_next(there: Site) -> None:
    create(there, one_worker(there, [*GATE, *COPY]))
    at = there.daemon.commit_files("in", {"a": b"first"})
    there.began()
    former = there.pod()
    there.cluster.core.delete_namespaced_pod(former.metadata.name, there.namespace, grace_period_seconds=0)
    there.open_gate(there.pod(former.metadata.name))
    assert content(there, at) == {"a": b"FIRST"}
    assert [job.state for job in all_ended(there.daemon, 1)] == [pps_pb2.JOB_SUCCESS]


def test_a_pod_that_is_evicted_is_replaced_and_the_pipeline_says_why(there: Site) -> None:
    create(there, one_worker(there, [*GATE, *COPY]))
    at = there.daemon.commit_files("in", {"a": b"first"})
    there.began()
    former = there.pod()
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=former.metadata.name))
    there.cluster.core.create_namespaced_pod_eviction(former.metadata.name, there.namespace, eviction)
    there.told("Eviction API")
    there.open_gate(there.pod(former.metadata.name))
    assert content(there, at) == {"a": b"FIRST"}


def test_what_a_lost_node_had_is_computed_by_others(there: Site, second_node: str) -> None:
    def runs_on() -> set[str]:
        return {pod.spec.node_name for pod in there.pods() if pod.status.phase == "Running"}

    create(there, there.spec(lines=["hostname", *GATE, *COPY], parallelism_spec={"constant": 4}))
    files = {f"f{number}": b"content %d" % number for number in range(8)}
    at = there.daemon.commit_files("in", files)
    until(lambda: len(there.pods()) == 4 and len(runs_on()) == 2)
    pods = there.pods()
    for pod in pods:
        there.said(pod.metadata.name)  # it has a datum
    there.cluster.lose(second_node)
    for pod in pods:
        if pod.spec.node_name != second_node:
            there.open_gate(pod)
    assert content(there, at) == {name: data.upper() for name, data in files.items()}
    lost = {pod.metadata.name for pod in pods if pod.spec.node_name == second_node}
    until(lambda: len(there.pods()) == 4 and lost.isdisjoint(pod.metadata.name for pod in there.pods()))


def test_a_sidecar_that_is_killed_starts_again_in_its_pod(there: Site) -> None:
    create(there, one_worker(there, [*GATE, *COPY]))
    at = there.daemon.commit_files("in", {"a": b"first"})
    there.began()
    pod = there.pod()
    kill("ppsd.worker.sidecar", pod.metadata.name)
    there.told("container storage")
    there.open_gate(pod)
    assert content(there, at) == {"a": b"FIRST"}
    assert there.pod().metadata.uid == pod.metadata.uid


def test_a_users_container_that_ends_starts_again_and_sees_the_next_datum(there: Site) -> None:
    # What the command does to its container's first process, a lack of memory would do.
    lines = ["[ -e /pfs/in/b ] && [ ! -e /pfs-runner/again ] && touch /pfs-runner/again && kill -9 $(pidof pfs-runner)"]
    create(there, one_worker(there, [*lines, *COPY]))
    assert content(there, there.daemon.commit_files("in", {"a": b"first"})) == {"a": b"FIRST"}
    pod = there.pod()
    at = there.daemon.commit_files("in", {"b": b"second"})
    assert content(there, at) == {"a": b"FIRST", "b": b"SECOND"}
    there.told("container user")
    assert there.pod().metadata.uid == pod.metadata.uid


def test_workers_outlive_the_service_and_find_it_again(there: Site) -> None:
    create(there, one_worker(there, [*GATE, *COPY]))
    at = there.daemon.commit_files("in", {"a": b"first"})
    there.began()
    pod = there.pod()
    there.daemon.kill()
    there.open_gate(pod)
    there.daemon.start()
    assert content(there, at) == {"a": b"FIRST"}
    after = there.pod()
    assert after.metadata.uid == pod.metadata.uid
    assert [one.restart_count for one in after.status.container_statuses] == [0, 0]
    [job] = all_ended(there.daemon, 1)
    assert job.restart == 1


# --- what can't be had


def test_an_image_that_can_not_be_pulled_is_told_until_there_is_another(there: Site) -> None:
    create(there, one_worker(there, COPY, transform={"image": f"{NODE}:1/missing:1"}))
    at = there.daemon.commit_files("in", {"a": b"first"})
    found = there.told("ErrImagePull")
    assert found.state == pps_pb2.PIPELINE_FAILURE
    assert f"{NODE}:1/missing:1" in found.recent_error
    assert [job.state for job in jobs(there.daemon)] == [pps_pb2.JOB_RUNNING]
    update(there.daemon, one_worker(there, COPY))
    assert content(there, at) == {"a": b"FIRST"}
    assert inspect(there.daemon).state == pps_pb2.PIPELINE_RUNNING


def test_a_name_that_is_no_images_is_told(there: Site) -> None:
    create(there, one_worker(there, COPY, transform={"image": "No//Image"}))
    assert there.told("InvalidImageName").state == pps_pb2.PIPELINE_FAILURE


def test_a_missing_secret_is_told_and_healed_by_its_coming(there: Site) -> None:
    create(there, one_worker(there, COPY, transform={"secrets": [{"name": "key", "mount_path": "/key"}]}))
    at = there.daemon.commit_files("in", {"a": b"first"})
    found = there.told('secret "key" not found')
    assert found.state == pps_pb2.PIPELINE_FAILURE
    body = client.V1Secret(metadata=client.V1ObjectMeta(name="key"), string_data={"word": "x"})
    there.cluster.core.create_namespaced_secret(there.namespace, body)
    assert content(there, at) == {"a": b"FIRST"}
    assert inspect(there.daemon).state == pps_pb2.PIPELINE_RUNNING


def test_what_no_node_has_room_for_is_told_and_waited_for(there: Site) -> None:
    create(there, one_worker(there, COPY, resource_spec={"gpu": 1}))
    found = there.told("Insufficient nvidia.com/gpu")
    assert found.state != pps_pb2.PIPELINE_FAILURE


# --- how many there are


def test_workers_without_a_job_go_but_one_and_come_again(there: Site) -> None:
    lines = [*COPY, "sleep 0.5", "hostname"]
    create(there, there.spec(lines=lines, parallelism_spec={"constant": 3}, scale_down_threshold="1s"))
    flush(there.daemon, there.daemon.commit_files("in", {"a": b""}))
    until(lambda: len(there.pods()) == 1)
    there.daemon.commit_files("in", {f"f{number}": b"" for number in range(30)})
    until(lambda: len(there.pods()) == 3)
    all_ended(there.daemon, 2)
    until(lambda: len(there.pods()) == 1)


def test_a_coefficient_counts_the_nodes(there: Site) -> None:
    nodes = len(there.cluster.core.list_node().items)
    create(there, there.spec(lines=COPY, parallelism_spec={"coefficient": 2.0}))
    until(lambda: len(there.pods()) == 2 * nodes)


# --- services


def test_a_service_pipeline_is_reached_at_its_port_of_the_nodes(there: Site) -> None:
    def fetch() -> bytes:
        try:
            with urllib.request.urlopen(f"http://{NODE}:30765/a", timeout=2) as answer:
                data: bytes = answer.read()
                return data
        except OSError:
            return b""

    service = {"internal_port": 8080, "external_port": 30765}
    request = there.spec(lines=["exec httpd -f -p 8080 -h /pfs/in"], input=atom("in", "/"), service=service)
    request.ClearField("parallelism_spec")
    create(there, request)
    there.daemon.commit_files("in", {"a": b"first"})
    until(lambda: fetch() == b"first")
    at = there.daemon.start_commit("in")
    there.daemon.put(at, "a", b"second", overwrite=True)
    there.daemon.finish_commit(at)
    until(lambda: fetch() == b"second")
    assert there.services() == ["pipeline-upper-v1"]
    delete(there.daemon)
    assert there.services() == []


# --- what is left


def test_updates_change_what_has_to_change(there: Site) -> None:
    create(there, one_worker(there, COPY))
    assert content(there, there.daemon.commit_files("in", {"a": b"first"})) == {"a": b"FIRST"}
    pod = there.pod()
    update(there.daemon, one_worker(there, COPY, description="other words"))
    at = there.daemon.commit_files("in", {"b": b"second"})
    assert content(there, at) == {"a": b"FIRST", "b": b"SECOND"}
    assert there.pod().metadata.uid == pod.metadata.uid
    update(there.daemon, one_worker(there, ["echo new > /pfs/out/$(ls /pfs/in)"]))
    assert content(there, at) == {"a": b"new\n", "b": b"new\n"}
    assert there.controllers() == ["pipeline-upper-v3"]
    until(lambda: [one.metadata.uid for one in there.pods()] == [there.pod().metadata.uid] != [pod.metadata.uid])


def test_nothing_is_left_of_a_pipeline_that_is_stopped_or_deleted(there: Site) -> None:
    create(there, there.spec(lines=COPY))
    flush(there.daemon, there.daemon.commit_files("in", {"a": b"first"}))
    named, pods = pps_pb2.Pipeline(name="upper"), there.pods()
    assert mounts_of(pods)
    there.daemon.pps.StopPipeline(pps_pb2.StopPipelineRequest(pipeline=named))
    assert (there.controllers(), there.pods(), mounts_of(pods)) == ([], [], [])
    there.daemon.pps.StartPipeline(pps_pb2.StartPipelineRequest(pipeline=named))
    flush(there.daemon, there.daemon.commit_files("in", {"b": b"second"}))
    pods = there.pods()
    delete(there.daemon, delete_repo=True)
    assert (there.controllers(), there.pods(), mounts_of(pods)) == ([], [], [])


def test_a_service_removes_what_belongs_to_no_pipeline(there: Site, tmp_path: pathlib.Path, own_image: str) -> None:
    create(there, one_worker(there, COPY))
    until(there.controllers)
    there.daemon.kill()
    (tmp_path / "other").mkdir()
    with site(tmp_path / "other", there.cluster, there.namespace, own_image, there.image):
        until(lambda: not there.controllers() and not there.pods())


# --- the tutorial


def test_the_tutorials_pipeline_finds_edges(there: Site, opencv_image: str) -> None:
    program = (TOOLS / "edges.py").read_text().splitlines()
    pictures = photographs()
    there.daemon.create_repo("images")
    transform = {"image": opencv_image, "cmd": ["python3", "-"]}
    create(there, there.spec("edges", lines=program, transform=transform, input=atom("images")))
    counting = ["find /pfs/edges -name '*.png' | wc -l > /pfs/out/count"]
    create(there, there.spec("count", lines=counting, input=atom("edges", "/")))
    names = ("coffee.png", "astronaut.png")
    at = there.daemon.commit_files("images", {name: (pictures / name).read_bytes() for name in names})
    edges = content(there, at, pipeline="edges")
    assert sorted(edges) == sorted(names)
    assert all(data.startswith(b"\x89PNG") for data in edges.values())
    assert content(there, at, pipeline="count") == {"count": b"2\n"}
