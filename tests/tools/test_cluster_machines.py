"""What the cluster is made of, without Kubernetes: machines, certificates, where things are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pfsd.errors import InvalidError
from tools.cluster import layout, machines, network
from tools.cluster.init import Plan, Program
from tools.cluster.layout import Layout, Machine
from tools.cluster.pki import Authority

SECONDS = 30.0


def _eventually(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine that no cluster has, on its bridge; all of it is gone afterwards."""
    if os.geteuid() or not all(map(shutil.which, ("ip", "nsenter", "unshare", "sysctl"))):
        pytest.skip("machines need root, and the programs ip, nsenter, unshare and sysctl")
    made = Machine(layout.MOST_NODES + 1, tmp_path / "machine")
    had_bridge = subprocess.run(["ip", "link", "show", layout.BRIDGE], capture_output=True, check=False).returncode == 0
    network.add_bridge(Layout(tmp_path))
    try:
        yield made
    finally:
        if made.namespace in network.namespaces():
            machines.stop(made.namespace)
        if not had_bridge:
            network.remove_bridge()


def test_a_machine_has_its_own_files_processes_and_address(machine: Machine, tmp_path: Path) -> None:
    told = "echo $$ > /run/pid; ip -4 -o address show eth0 > /var/address; mount -t tmpfs inner /mnt; touch /run/done"
    machines.start(Layout(tmp_path), machine, [Program("one", ["sh", "-c", f"{told}; sleep 3600"])])
    _eventually((machine.run / "done").exists)
    assert machines.running(machine)
    assert int((machine.run / "pid").read_text()) < 20
    assert f" {machine.address}/24 " in (machine.var / "address").read_text()
    assert " inner " not in Path("/proc/self/mountinfo").read_text()


def test_a_program_that_ends_is_started_again(machine: Machine, tmp_path: Path) -> None:
    machines.start(Layout(tmp_path), machine, [Program("one", ["sh", "-c", "echo started >> /var/starts; kill -9 $$"])])
    starts = machine.var / "starts"
    _eventually(lambda: starts.exists() and starts.read_text().count("started") >= 2)


def test_nothing_of_a_machine_is_left_once_it_is_stopped_but_its_var(machine: Machine, tmp_path: Path) -> None:
    group = machines.GROUPS / "pids" / machine.namespace / "inner"
    marker = f"3600.{os.getpid()}"
    told = f"touch /var/kept /run/lost; setsid sleep {marker} & touch /run/done; wait"
    machines.start(Layout(tmp_path), machine, [Program("one", ["sh", "-c", told])])
    _eventually((machine.run / "done").exists)
    if group.parent.exists():
        group.mkdir()
    machines.stop(machine.namespace)
    assert subprocess.run(["pgrep", "-f", marker], check=False).returncode == 1
    assert machine.namespace not in network.namespaces()
    assert machine.namespace not in machines.left_groups()
    assert not Path("/sys/class/net", machine.interface).exists()
    machines.start(Layout(tmp_path), machine, [Program("one", ["sh", "-c", "touch /run/again; sleep 3600"])])
    _eventually((machine.run / "again").exists)
    assert (machine.var / "kept").exists()
    assert not (machine.run / "lost").exists()


def test_certificates_are_of_one_authority_and_say_what_they_are_for(tmp_path: Path) -> None:
    made = Layout(tmp_path)
    authority = Authority(made)
    root = x509.load_pem_x509_certificate(authority.identity.certificate.read_bytes())
    server = x509.load_pem_x509_certificate(authority.api_server().certificate.read_bytes())
    server.verify_directly_issued_by(root)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kubernetes.default.svc" in names.get_values_for_type(x509.DNSName)
    assert made.control.address in map(str, names.get_values_for_type(x509.IPAddress))
    config = json.loads(authority.component("node:node1", "system:nodes").read_text())
    assert config["clusters"][0]["cluster"]["server"] == made.server
    client = x509.load_pem_x509_certificate((made.pki / "node-node1.crt").read_bytes())
    subject = {part.oid: part.value for part in client.subject}
    assert subject == {NameOID.COMMON_NAME: "system:node:node1", NameOID.ORGANIZATION_NAME: "system:nodes"}
    usage = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    keys = [*made.pki.glob("*.key"), *made.pki.glob("*.kubeconfig")]
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_what_was_issued_stays(tmp_path: Path) -> None:
    first = Authority(Layout(tmp_path)).api_server().certificate.read_bytes()
    assert Authority(Layout(tmp_path)).api_server().certificate.read_bytes() == first


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = Plan("/a", "/b", "/c", [Program("x", ["x", "--y"]), Program("z", [])])
    plan.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("directory", ["/var/cluster", "/run/cluster", "/tmp/" + "long/" * 20])
def test_directories_where_no_cluster_can_live_are_refused(monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    monkeypatch.setenv("PFS_CLUSTER_DIR", directory)
    with pytest.raises(InvalidError, match="set PFS_CLUSTER_DIR"):
        layout.layout()


def test_without_a_cluster_the_tool_says_how_to_get_one() -> None:
    if os.geteuid():
        pytest.skip("the tool wants root")
    for arguments in (["start-node", "1"], ["load", "image.tar"]):
        with tempfile.TemporaryDirectory() as directory:
            environment = {**os.environ, "PFS_CLUSTER_DIR": directory}
            command = [sys.executable, "-m", "tools.cluster", *arguments]
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, check=False, timeout=SECONDS
            )
        assert done.returncode == 1
        assert done.stderr.startswith("tools.cluster: there is no ")
        assert "`python -m tools.cluster up` starts one" in done.stderr
