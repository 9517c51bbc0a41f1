"""Makes the Kubernetes launcher from the settings in the environment.

Loaded by name, because the client of the API server takes a second and 60 MiB that others need not pay.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import trio

from ppsd.engine.launcher import Reports
from ppsd.launchers.kube import settings
from ppsd.launchers.kube.cluster import Cluster
from ppsd.launchers.kube.launcher import KubernetesLauncher


def prepared() -> Callable[[trio.Nursery, Reports], KubernetesLauncher]:
    """What makes the launcher; raises InvalidError where its settings or the cluster's address are missing or wrong."""
    chosen = settings.from_environment(os.environ)
    return functools.partial(KubernetesLauncher, Cluster.found(chosen.namespace), chosen)
