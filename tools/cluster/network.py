"""The bridge between this machine and those of the cluster, and a network namespace for each of them.

Every packet is routed: pods of a node hang on links of their own, and the others know by routes which node has which
pods. So this machine reaches every pod, and every pod this machine, at their own addresses. Nothing beyond this machine
can be reached, and whoever tries is told so at once.
"""

from __future__ import annotations

from tools.cluster.commands import run, succeeds
from tools.cluster.layout import BRIDGE, HOST_ADDRESS, MACHINES, MOST_NODES, PREFIX, Layout, Machine


def namespaces() -> list[str]:
    """The network namespaces of clusters that there are."""
    names = [line.split()[0] for line in run(["ip", "netns", "list"]).splitlines()]
    return [name for name in names if name.startswith(PREFIX)]


def add_bridge(layout: Layout) -> None:
    """Make the bridge, unless it is there."""
    if succeeds(["ip", "link", "show", BRIDGE]):
        return
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", f"{HOST_ADDRESS}/{MACHINES.prefixlen}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    for number in range(1, MOST_NODES + 1):
        node = layout.node(number)
        run(["ip", "route", "add", node.pods, "via", node.address])


def remove_bridge() -> None:
    """Remove the bridge, and with it the routes over it."""
    if succeeds(["ip", "link", "show", BRIDGE]):
        run(["ip", "link", "delete", BRIDGE])


def add_machine(layout: Layout, machine: Machine) -> None:
    """Make the network namespace of a machine, and the link that joins it to the others, unless they are there."""
    if machine.namespace in namespaces():
        return
    inside = ["ip", "-n", machine.namespace]
    run(["ip", "netns", "add", machine.namespace])
    run(["ip", "link", "add", machine.interface, "type", "veth", "peer", "name", "eth0", "netns", machine.namespace])
    run(["ip", "link", "set", machine.interface, "master", BRIDGE, "up"])
    run([*inside, "address", "add", f"{machine.address}/{MACHINES.prefixlen}", "dev", "eth0"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "link", "set", "eth0", "up"])
    for number in range(1, MOST_NODES + 1):
        other = layout.node(number)
        if other != machine:
            run([*inside, "route", "add", other.pods, "via", other.address])
    run(["ip", "netns", "exec", machine.namespace, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])


def remove_machine(namespace: str) -> None:
    """Remove a network namespace that nothing runs in any more; its links and rules go with it."""
    run(["ip", "netns", "delete", namespace])
