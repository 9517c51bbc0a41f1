"""A real Kubernetes cluster on one Linux machine, for development and tests: `python -m tools.cluster`.

The control plane and every node are *machines*: network, process and mount namespaces of their own, joined by a
bridge. What runs in them is the real thing: etcd, containerd, runc and the CNI plugins of Debian, Kubernetes built from
its Go module.
"""
