"""The command that makes a daemon in a cluster reachable from here."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass

from pachctl.terminal.command import Arguments, Command, port
from pachctl.terminal.output import remark
from pfsd.errors import InvalidError
from pfsdeploy.settings import PORT

_FLAGS = {"--kubeconfig": "kubeconfig", "--context": "context", "--namespace": "namespace", "-n": "namespace"}


@dataclass(frozen=True)
class KubectlFlags:
    """The flags of kubectl that say which cluster is meant."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""


def kubectl_flags(text: str) -> KubectlFlags:
    """What `--kubectlflags` says; raises InvalidError for a flag that only kubectl itself could follow."""
    found: dict[str, str] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidError(f"--kubectlflags: {text!r} can't be read: {error}") from error
    while words:
        flag, given, value = words.pop(0).partition("=")
        if flag not in _FLAGS:
            raise InvalidError(
                f"--kubectlflags: kubectl is not used here, and of its flags not {flag} but {_understood()}"
            )
        if not given:
            if not words:
                raise InvalidError(f"--kubectlflags: {flag} needs a value")
            value = words.pop(0)
        found[_FLAGS[flag]] = value
    return KubectlFlags(**found)


def port_forward(arguments: Arguments) -> int:
    """Forwards until it is interrupted."""
    from pfsdeploy.cluster import connect
    from pfsdeploy.forward import HOST, Forwarder

    flags = kubectl_flags(arguments.kubectlflags)
    for option, given in (("--ui-port", arguments.ui_port), ("--proxy-port", arguments.proxy_port)):
        if given is not None:
            remark(f"{option} has no meaning: there is no dashboard, and nothing listens on {given}")
    cluster = connect(arguments.namespace or flags.namespace, flags.kubeconfig, flags.context)
    forwarder = Forwarder(cluster, arguments.port, remark)
    print(
        f"Forwarding {HOST}:{forwarder.port} to pfsd in the namespace {cluster.namespace} at {cluster.host}", flush=True
    )
    try:
        forwarder.serve()
    except KeyboardInterrupt:
        pass  # the way in which it is meant to end
    finally:
        forwarder.close()
    return 0


def _understood() -> str:
    return ", ".join(_FLAGS)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-k",
        "--kubectlflags",
        metavar="FLAGS",
        default="",
        help=f"flags of kubectl that name the cluster: {_understood()}",
    )
    parser.add_argument(
        "-p", "--port", type=port, metavar="PORT", default=PORT, help="the local port, 0 for any (default %(default)s)"
    )
    parser.add_argument("-u", "--ui-port", type=port, metavar="PORT", help="no meaning: there is no dashboard")
    parser.add_argument("-x", "--proxy-port", type=port, metavar="PORT", help="no meaning: there is no dashboard")
    parser.add_argument("--namespace", metavar="NAME", default="", help="default: that of the kubeconfig's context")


COMMANDS = {
    "port-forward": Command(
        run=port_forward,
        options=_options,
        description="""\
Forward a port of this machine to pfsd in the cluster that kubectl uses (KUBECONFIG). Where the daemon's pod is
replaced, new connections find the next one. This command blocks until it is interrupted.""",
        examples=("pachctl port-forward &", "pachctl port-forward -k '--kubeconfig /some/path/kubeconfig' -p 30660"),
    ),
}
