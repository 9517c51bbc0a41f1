"""Where a daemon goes for a client, and where not."""

from __future__ import annotations

import ipaddress
import pathlib
import threading

import grpc
import pytest

from pachproto import pfs_pb2
from pfsd.errors import InvalidError
from pfsd.fetching import web
from pfsd.fetching.reach import ANYWHERE, Reach, networks
from tests.pfsd.fetching.test_urls import site
from tests.support.daemons import Daemon, running

PUBLIC = ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8")
PRIVATE = (
    *("127.0.0.1", "127.1.2.3", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1"),
    *("64:ff9b::7f00:1", "2002:7f00:1::", "192.0.2.1", "2001:db8::1"),
)


@pytest.fixture
def strict(tmp_path: pathlib.Path) -> Daemon:
    return Daemon(tmp_path / "strict", "--no-pipelines", fetches_from="")


def refusal(daemon: Daemon, url: str) -> str:
    if not daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info:
        daemon.create_repo("r")
    at = daemon.start_commit("r", "")
    request = pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path="f"), url=url)
    with pytest.raises(grpc.RpcError) as caught:
        daemon.pfs.PutFile(iter([request]), timeout=30)
    assert daemon.list(at) == []
    daemon.pfs.DeleteCommit(pfs_pb2.DeleteCommitRequest(commit=at))
    return f"{caught.value.code().name} {caught.value.details()}"


def test_public_addresses_are_within_reach_and_no_others() -> None:
    assert all(map(Reach().permits, PUBLIC))
    assert not any(map(Reach().permits, PRIVATE))
    assert all(map(ANYWHERE.permits, (*PUBLIC, *PRIVATE)))
    near = Reach(allowed=networks(["10.0.0.0/8", "fc00::/7", "127.0.0.1"]))
    assert [each for each in PRIVATE if near.permits(each)] == [
        *("127.0.0.1", "10.1.2.3", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")
    ]
    assert networks(["10.1.2.3/8"]) == (ipaddress.IPv4Network("10.0.0.0/8"),)
    for text in ("", "everything", "10.0.0.0/33", "10.0.0"):
        with pytest.raises(InvalidError, match="is no network"):
            networks([text])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0"])
def test_a_daemon_does_not_go_to_its_own_machine(strict: Daemon, host: str) -> None:
    with site() as place:
        port = place.rpartition(":")[2]
        try:
            strict.start()
            for scheme in ("http", "https"):
                said = refusal(strict, f"{scheme}://user:secret@{host}:{port}/")
                assert said.startswith("INVALID_ARGUMENT ")
                assert "--allow-fetch NETWORK" in said
                assert "secret" not in said
        finally:
            strict.end()


def test_no_redirection_leads_there(tmp_path: pathlib.Path) -> None:
    """The first server is within reach, at 127.0.0.1; what it redirects to is not, at 127.0.0.2."""
    with site() as place, running(tmp_path / "root", "--no-pipelines") as daemon:
        daemon.options = ("--no-pipelines", "--allow-fetch", "127.0.0.1")
        daemon.stop()
        daemon.start()
        elsewhere = f"http://127.0.0.2:{place.rpartition(':')[2]}/"
        assert "--allow-fetch NETWORK" in refusal(daemon, f"http://{place}/to/{elsewhere}")
        assert "--allow-fetch NETWORK" in refusal(daemon, f"http://{place}/to/http://{place}/to/{elsewhere}")
        at = daemon.start_commit("r")
        file = pfs_pb2.File(commit=at, path="f")
        daemon.pfs.PutFile(iter([pfs_pb2.PutFileRequest(file=file, url=f"http://{place}/to/http://{place}/")]))
        assert daemon.get(at, "f") == b"nobody"


def test_no_proxy_is_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with site() as place:
        monkeypatch.setenv("http_proxy", f"http://{place}")
        for host in ("127.0.0.1", "localhost", "LOCALHOST.", "[::1]", "10.0.0.1"):
            with pytest.raises(InvalidError, match="--allow-fetch NETWORK"):
                list(web.blocks(f"http://{host}/", threading.Event(), Reach()))
        assert b"".join(web.blocks("http://name.example/", threading.Event(), Reach())) == b"nobody"


def test_of_other_daemons_those_within_reach_are_asked_and_it_itself(strict: Daemon, tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "other", "--no-pipelines") as other:
        other.create_repo("theirs")
        other.commit_files("theirs", {"f": b"theirs"})
        try:
            strict.start()
            for address in (other.address, f"localhost:{other.address.rpartition(':')[2]}"):
                said = refusal(strict, f"pfs://{address}/theirs/master/f")
                assert said.startswith("INVALID_ARGUMENT ")
                assert "--allow-fetch NETWORK" in said
            strict.commit_files("r", {"f": b"own"}, "source")
            at = strict.start_commit("r")
            for number, address in enumerate((strict.address, "")):
                file = pfs_pb2.File(commit=at, path=f"copy-{number}")
                strict.pfs.PutFile(iter([pfs_pb2.PutFileRequest(file=file, url=f"pfs://{address}/r/source/f")]))
                assert strict.get(at, f"copy-{number}") == b"own"
        finally:
            strict.end()


def test_what_is_no_network_is_told_at_the_start(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path / "root", fetches_from="all")
    with pytest.raises(AssertionError, match="all is no network: write one as"):
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(30) == 1
