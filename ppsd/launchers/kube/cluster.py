"""The API server, for a trio loop: the official client, which blocks, in threads.

Objects are the JSON that the server sends. A caller that is cancelled leaves at once; its call may still take effect.
Raises UnavailableError while the server does not answer, RefusedError when it says no, AlreadyExistsError for a name
that is taken.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio
import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from pfsd.errors import AlreadyExistsError, InvalidError, RefusedError, UnavailableError
from ppsd.launchers.kube.manifest import Object

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
WATCH_SECONDS = 240
"""After so long a watch ends, and everything is looked at anew."""
_NOT_FOUND, _CONFLICT, _GONE = 404, 409, 410
_SERVER_ERROR, _TOO_MANY = 500, 429

_threads = trio.CapacityLimiter(20)
"""Calls of the API server that wait for it at a time."""


class Cluster:
    """One namespace of a cluster, and the cluster's nodes."""

    def __init__(self, namespace: str, api: client.CoreV1Api) -> None:
        self.namespace = namespace
        self._api = api

    @classmethod
    def found(cls, namespace: str) -> Cluster:
        """The cluster that this process runs in, or that KUBECONFIG names. Raises InvalidError where there is none.

        Nothing is asked of it yet.
        """
        settings = client.Configuration()
        try:
            if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
                config.load_incluster_config(client_configuration=settings)
            else:
                config.load_kube_config(client_configuration=settings)
        except (config.ConfigException, OSError) as error:
            raise InvalidError(
                f"no cluster is found for --launcher kubernetes ({error}): run in a pod, or set KUBECONFIG"
            ) from error
        settings.retries = False
        return cls(namespace, client.CoreV1Api(client.ApiClient(settings)))

    # --- reading -----------------------------------------------------------------------------------------

    async def nodes(self) -> list[Object]:
        """All nodes."""
        found = await self._call("the nodes", self._api.list_node)
        return _items(found)

    async def controllers(self, selector: str) -> list[Object]:
        """The replication controllers that have these labels."""
        return _items(await self._list("controllers", self._api.list_namespaced_replication_controller, selector))

    async def services(self, selector: str) -> list[Object]:
        """The services that have these labels."""
        return _items(await self._list("services", self._api.list_namespaced_service, selector))

    async def pods(self, selector: str) -> list[Object]:
        """The pods that have these labels."""
        return _items(await self._list("pods", self._api.list_namespaced_pod, selector))

    async def events(self, pod: Object) -> list[Object]:
        """What has happened to a pod."""
        field = f"involvedObject.uid={pod['metadata']['uid']}"
        found = await self._call(
            "events", self._api.list_namespaced_event, namespace=self.namespace, field_selector=field
        )
        return _items(found)

    @asynccontextmanager
    async def watching_pods(self, selector: str) -> AsyncIterator[AsyncIterator[tuple[str, Object]]]:
        """What becomes of the pods that have these labels: pairs of ADDED, MODIFIED or DELETED and a pod.

        First those that are there. Ends after `WATCH_SECONDS` or whenever the server wants it to: watch again.
        """
        listed = await self._list("pods", self._api.list_namespaced_pod, selector)
        response = await self._open(
            "pods",
            self._api.list_namespaced_pod,
            namespace=self.namespace,
            label_selector=selector,
            resource_version=listed["metadata"]["resourceVersion"],
            watch=True,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=(CONNECT_SECONDS, WATCH_SECONDS + ANSWER_SECONDS),
        )

        async def changes() -> AsyncIterator[tuple[str, Object]]:
            for pod in _items(listed):
                yield "ADDED", pod
            lines = _lines(response)
            own = trio.CapacityLimiter(1)  # a thread that mostly waits takes none from others
            while line := await trio.to_thread.run_sync(_next, lines, abandon_on_cancel=True, limiter=own):
                change = json.loads(line)
                if change["type"] == "ERROR":
                    if change["object"].get("code") == _GONE:
                        return
                    raise UnavailableError(f"the cluster no longer reports on pods: {change['object'].get('message')}")
                yield change["type"], change["object"]

        try:
            yield changes()
        finally:
            _end_reading(response)

    # --- changing ----------------------------------------------------------------------------------------

    async def create_controller(self, body: Object) -> None:
        """Make a replication controller."""
        await self._create(self._api.create_namespaced_replication_controller, body)

    async def create_service(self, body: Object) -> None:
        """Make a service."""
        await self._create(self._api.create_namespaced_service, body)

    async def scale(self, controller: Object, count: int) -> None:
        """Let a replication controller keep another number of pods."""
        name = controller["metadata"]["name"]
        body = {"spec": {"replicas": count}}
        call = self._api.patch_namespaced_replication_controller
        await self._call(f"to scale {name}", call, name=name, namespace=self.namespace, body=body)

    async def delete_controller(self, name: str) -> None:
        """Remove a replication controller; its pods follow. One that is gone is fine."""
        call = self._api.delete_namespaced_replication_controller
        await self._delete(call, name, propagation_policy="Background")

    async def delete_service(self, name: str) -> None:
        """Remove a service. One that is gone is fine."""
        await self._delete(self._api.delete_namespaced_service, name)

    async def delete_pod(self, name: str) -> None:
        """Remove a pod. One that is gone is fine."""
        await self._delete(self._api.delete_namespaced_pod, name)

    # --- calls -------------------------------------------------------------------------------------------

    async def _list(self, what: str, call: Callable[..., Any], selector: str) -> Object:
        return await self._call(f"the list of {what}", call, namespace=self.namespace, label_selector=selector)

    async def _create(self, call: Callable[..., Any], body: Object) -> None:
        what = f"to create {body['kind']} {body['metadata']['name']}"
        await self._call(what, call, namespace=self.namespace, body=body)

    async def _delete(self, call: Callable[..., Any], name: str, **options: str) -> None:
        try:
            await self._call(f"to delete {name}", call, name=name, namespace=self.namespace, **options)
        except _MissingError:
            pass

    async def _call(self, what: str, call: Callable[..., Any], **arguments: Any) -> Object:
        def ask() -> Object:
            with _errors(what):
                timeout = (CONNECT_SECONDS, ANSWER_SECONDS)
                response: urllib3.HTTPResponse = call(_preload_content=False, _request_timeout=timeout, **arguments)
                found: Object = json.loads(response.data)
                return found

        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=_threads)

    async def _open(self, what: str, call: Callable[..., Any], **arguments: Any) -> urllib3.HTTPResponse:
        """Begin an answer that comes bit by bit."""

        def ask() -> urllib3.HTTPResponse:
            with _errors(what):
                response: urllib3.HTTPResponse = call(_preload_content=False, **arguments)
                return response

        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=_threads)


class _MissingError(RefusedError):
    """What was named is not there."""


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Raise the client's errors as ours."""
    try:
        yield
    except ApiException as error:
        raise _translated(what, error) from error
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise UnavailableError(f"the cluster does not answer: {_innermost(error)}") from error


def _translated(what: str, error: ApiException) -> UnavailableError | AlreadyExistsError:
    try:
        message = str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        message = str(error.reason)
    sentence = f"the cluster refuses {what}: {message}"
    status = error.status or 0
    if status == _CONFLICT:
        return AlreadyExistsError(sentence)
    if status == _NOT_FOUND:
        return _MissingError(sentence)
    if status >= _SERVER_ERROR or status in (0, _TOO_MANY):
        return UnavailableError(f"the cluster can't be asked for {what}: {message}")
    return RefusedError(sentence)


def _innermost(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    text = str(reason if isinstance(reason, BaseException) else error)
    return text.partition("): ")[2] or text  # what the client tells of its own objects says nothing to a user


def _items(listed: Object) -> list[Object]:
    found: list[Object] = listed["items"]
    return found


def _end_reading(response: urllib3.HTTPResponse) -> None:
    """Give the thread that may still read an end."""
    try:
        response.shutdown()
    except (OSError, ValueError, RuntimeError) as error:  # it is at its end
        logger.debug("a watch is over: %s", error)


def _lines(response: urllib3.HTTPResponse) -> Iterator[bytes]:
    rest = b""
    for piece in response.stream(amt=None, decode_content=False):
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(None, lines)


def _next(lines: Iterator[bytes]) -> bytes | None:
    """The next line; None at the end, also where the connection breaks: the watch begins anew."""
    try:
        return next(lines, None)
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        logger.info("a watch has ended: %s", error)
        return None
