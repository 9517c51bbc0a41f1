"""Makes the Kubernetes launcher of what the environment says.

Loaded by name, because the client of the API server takes a second and 60 MiB that others need not pay.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import trio

from ppsd.kube import settings
from ppsd.kube.cluster import Cluster
from ppsd.kube.launcher import KubernetesLauncher
from ppsd.launcher import Reports


def prepared() -> Callable[[trio.Nursery, Reports], KubernetesLauncher]:
    """What makes the launcher; raises InvalidError where its settings or the cluster's address are missing or wrong."""
    chosen = settings.from_environment(os.environ)
    return functools.partial(KubernetesLauncher, Cluster.found(chosen.namespace), chosen)
