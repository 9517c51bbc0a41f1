"""A Kubernetes cluster as this package uses it: objects by kind and name, errors in words.

Objects travel as they stand in manifests. The kubernetes package is imported when a cluster is first asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pfsd.errors import AlreadyExistsError, InvalidError, NotFoundError, PfsError, RefusedError, UnavailableError

Object = dict[str, Any]

REQUEST_SECONDS = 30.0
"""For which the cluster may think about one request."""
MANAGER = "pachctl"
"""Under which name the cluster remembers what was set here: fields that others set stay theirs."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: where it is found in the API."""

    group: str
    """Empty for the core API."""
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "") -> str:
        """Of one object, or of all in a namespace."""
        base = f"/apis/{self.group}/v1" if self.group else "/api/v1"
        inside = f"/namespaces/{namespace}" if self.namespaced else ""
        return f"{base}{inside}/{self.plural}" + (f"/{name}" if name else "")


_RBAC = "rbac.authorization.k8s.io"
KINDS = {
    "ServiceAccount": Kind("", "serviceaccounts"),
    "Role": Kind(_RBAC, "roles"),
    "RoleBinding": Kind(_RBAC, "rolebindings"),
    "ClusterRole": Kind(_RBAC, "clusterroles", namespaced=False),
    "ClusterRoleBinding": Kind(_RBAC, "clusterrolebindings", namespaced=False),
    "Secret": Kind("", "secrets"),
    "ConfigMap": Kind("", "configmaps"),
    "PersistentVolume": Kind("", "persistentvolumes", namespaced=False),
    "PersistentVolumeClaim": Kind("", "persistentvolumeclaims"),
    "Service": Kind("", "services"),
    "Pod": Kind("", "pods"),
    "ReplicationController": Kind("", "replicationcontrollers"),
    "ReplicaSet": Kind("apps", "replicasets"),
    "Deployment": Kind("apps", "deployments"),
}


class Cluster:
    """The API of one cluster. Methods raise PfsError."""

    def __init__(self, client: Any, namespace: str) -> None:
        from kubernetes.dynamic import DynamicClient

        self.client = client
        """A kubernetes.client.ApiClient."""
        self.namespace = namespace
        """Where it is worked in."""
        # Paths are known here: what the cluster offers need not be asked for.
        self._api = DynamicClient(client, discoverer=lambda _client, _cache: None)

    @property
    def host(self) -> str:
        """The address of its API."""
        return str(self.client.configuration.host)

    def apply(self, wanted: Object, *, dry_run: bool = False) -> str:
        """Make an object what it is to be; "created", "configured" or "unchanged".

        In a dry run the cluster only says what it would do. Raises InvalidError for what the cluster does not accept.
        """
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        path = KINDS[kind].path(self.namespace, name)
        before = self._found(path)
        options = {"dry_run": "All"} if dry_run else {}
        after = self._request(
            "patch",
            path,
            f"{kind} {name}",
            body=wanted,
            content_type="application/apply-patch+yaml",
            field_manager=MANAGER,
            force_conflicts=True,
            **options,
        )
        if before is None:
            return "created"
        same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        return "unchanged" if same else "configured"

    def get(self, kind: str, name: str) -> Object | None:
        """An object, or None where there is none."""
        return self._found(KINDS[kind].path(self.namespace, name))

    def listed(self, kind: str, labels: str) -> list[Object]:
        """The objects with these labels, in the namespace if the kind has any."""
        found = self._request("get", KINDS[kind].path(self.namespace), f"{kind}s", label_selector=labels)
        return [{"kind": kind, **item} for item in found.get("items") or ()]

    def delete(self, kind: str, name: str) -> None:
        """Remove an object, and what it made; one that is not there is no error."""
        try:
            self._request(
                "delete", KINDS[kind].path(self.namespace, name), f"{kind} {name}", propagation_policy="Background"
            )
        except NotFoundError:
            pass

    def require_namespace(self) -> None:
        """Raises NotFoundError where the namespace is missing."""
        if self._found(f"/api/v1/namespaces/{self.namespace}") is None:
            raise NotFoundError(
                f"there is no namespace {self.namespace} in the cluster at {self.host}: "
                f"kubectl create namespace {self.namespace} makes it"
            )

    def _found(self, path: str) -> Object | None:
        try:
            return self._request("get", path, path)
        except NotFoundError:
            return None

    def _request(self, method: str, path: str, what: str, **options: Any) -> Object:
        with explained(self.host, what):
            answer = self._api.request(method, path, _request_timeout=REQUEST_SECONDS, serialize=False, **options)
            found: Object = json.loads(answer.data)
        return found


def connect(namespace: str = "", kubeconfig: str = "", context: str = "") -> Cluster:
    """The cluster that the kubeconfig names, or the one that this process runs in.

    Without a namespace: that of the kubeconfig's context. Raises UnavailableError where no cluster is named.
    """
    from kubernetes import config

    if not kubeconfig and not context and "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Cluster(*_inside(namespace))
    path = kubeconfig or None
    try:
        client = config.new_client_from_config(config_file=path, context=context or None)
        found, active = config.list_kube_config_contexts(path)
    except (config.ConfigException, OSError, ValueError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise UnavailableError(f"no cluster is named: {said}; set KUBECONFIG to the file that kubectl uses") from error
    chosen = next((one for one in found if one["name"] == context), active) if context else active
    client.configuration.retries = False
    if not client.configuration.verify_ssl:
        import urllib3

        # That no certificate is looked at was somebody's choice, in the kubeconfig: kubectl does not warn either.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return Cluster(client, namespace or chosen.get("context", {}).get("namespace") or "default")


def default_namespace() -> str:
    """The namespace of the kubeconfig's context, "default" where there is none. Asks no cluster."""
    try:
        return connect().namespace
    except PfsError:
        return "default"


def _inside(namespace: str) -> tuple[Any, str]:
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace") as file:
            own = file.read().strip()
    except (config.ConfigException, OSError) as error:
        raise UnavailableError(f"the cluster that this runs in gives no account to this pod: {error}") from error
    configuration.retries = False
    return client.ApiClient(configuration), namespace or own


@contextmanager
def explained(host: str, what: str) -> Iterator[None]:
    """Within it, a request about `what` that fails raises a PfsError."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise _refused(host, what, error) from error
    except (HTTPError, OSError) as error:
        raise _unreachable(host, error) from error


def _refused(host: str, what: str, error: Any) -> PfsError:
    said = _message(error)
    if error.status == 401:
        return RefusedError(f"the cluster at {host} does not take the credentials of the kubeconfig: renew them")
    if error.status == 403:
        return RefusedError(f"the cluster at {host} forbids it: {said}")
    if error.status == 404:
        return NotFoundError(f"the cluster at {host} has no {what}: {said}")
    if error.status == 409:
        return AlreadyExistsError(f"the cluster at {host} can't change {what} now: {said}")
    if error.status in (400, 422):
        return InvalidError(f"the cluster at {host} does not accept {what}: {said}")
    return UnavailableError(f"the cluster at {host} answers {error.status}: {said}")


def _message(error: Any) -> str:
    try:
        said = str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        said = str(error.reason or "no reason was given")
    return " ".join(said.partition("@@")[0].split()).rstrip(".")  # the rest is a patch


def _unreachable(host: str, error: Exception) -> PfsError:
    said = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return RefusedError(f"the cluster at {host} shows a certificate that the kubeconfig does not vouch for")
    return UnavailableError(f"no cluster answers at {host}: is it up, and is it the one that KUBECONFIG means?")
