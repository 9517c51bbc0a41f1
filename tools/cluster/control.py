"""The programs of the control plane."""

from __future__ import annotations

from tools.cluster.init import Program
from tools.cluster.layout import DOMAIN, SERVICES, Layout
from tools.cluster.pki import ADMINISTRATORS, Authority

ETCD = "http://127.0.0.1:2379"
"""Inside the network namespace of the control plane, where nothing else is."""
PROGRESS = "500ms"
"""Between etcd's notes to who watches that nothing has changed.

The API server can't ask Debian's etcd for them, and says "Too large resource version" where its cache is 3 s late.
"""
GRACE_SECONDS = 40
"""Without a sign of life of its kubelet, a node is lost."""
TOLERATION_SECONDS = 20
"""That pods bear a lost node before they are evicted; the usual 300 are long for a test."""


def programs(layout: Layout, authority: Authority) -> list[Program]:
    """What runs on the machine of the control plane."""
    etcd = [
        "/usr/bin/etcd",
        "--data-dir=/var/lib/etcd",
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        f"--experimental-watch-progress-notify-interval={PROGRESS}",
    ]
    return [
        Program("etcd", etcd),
        Program("kube-apiserver", _api_server(layout, authority)),
        Program("kube-controller-manager", _controller_manager(layout, authority)),
        Program("kube-scheduler", _scheduler(layout, authority)),
    ]


def _api_server(layout: Layout, authority: Authority) -> list[str]:
    ca = authority.identity.certificate
    server = authority.api_server()
    client = authority.issue("api-server-kubelet", "kube-apiserver-kubelet-client", ADMINISTRATORS)
    accounts = authority.service_accounts()
    return [
        str(layout.programs / "kube-apiserver"),
        f"--advertise-address={layout.control.address}",
        f"--etcd-servers={ETCD}",
        f"--service-cluster-ip-range={SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={ca}",
        f"--tls-cert-file={server.certificate}",
        f"--tls-private-key-file={server.key}",
        f"--kubelet-certificate-authority={ca}",
        f"--kubelet-client-certificate={client.certificate}",
        f"--kubelet-client-key={client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        f"--service-account-key-file={accounts.certificate}",
        f"--service-account-signing-key-file={accounts.key}",
        f"--default-not-ready-toleration-seconds={TOLERATION_SECONDS}",
        f"--default-unreachable-toleration-seconds={TOLERATION_SECONDS}",
    ]


def _controller_manager(layout: Layout, authority: Authority) -> list[str]:
    return [
        str(layout.programs / "kube-controller-manager"),
        *_as(authority, "kube-controller-manager"),
        f"--root-ca-file={authority.identity.certificate}",
        f"--service-account-private-key-file={authority.service_accounts().key}",
        "--use-service-account-credentials=true",
        f"--node-monitor-grace-period={GRACE_SECONDS}s",
    ]


def _scheduler(layout: Layout, authority: Authority) -> list[str]:
    return [str(layout.programs / "kube-scheduler"), *_as(authority, "kube-scheduler")]


def _as(authority: Authority, name: str) -> list[str]:
    """The options by which a controller is the user `system:NAME`; it is the only one, so it need not be elected."""
    config = authority.component(name)
    kinds = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    return [*(f"--{kind}={config}" for kind in kinds), "--bind-address=127.0.0.1", "--leader-elect=false"]
