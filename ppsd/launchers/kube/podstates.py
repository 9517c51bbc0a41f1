"""What the states of pods say about a pipeline's workers. Pure; pods and events are in the form of their JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ppsd.launchers.kube.manifest import PIPELINE, Object

_ON_ITS_WAY = ("", "ContainerCreating", "PodInitializing")
_BACKING_OFF = ("ImagePullBackOff", "CrashLoopBackOff")
_UNTOLERATED = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not get to work."""

    text: str
    """One sentence, with the cluster's own words."""
    blocked: bool
    """Whether something has to change, in the spec or the cluster, and not just room to be made."""


def name(pod: Object) -> str:
    """The pod's name, which is its worker's id."""
    found: str = pod["metadata"]["name"]
    return found


def pipeline(pod: Object) -> str:
    """Whose worker it is; empty where nothing says so."""
    found: str = pod["metadata"].get("annotations", {}).get(PIPELINE, "")
    return found


def is_ending(pod: Object) -> bool:
    """Whether the cluster is about to remove it."""
    return bool(pod["metadata"].get("deletionTimestamp"))


def has_failed(pod: Object) -> bool:
    """Whether it is over, and stays only for people to look at."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def trouble(pod: Object, before: Trouble | None = None) -> Trouble | None:
    """What keeps a pod from working, if its state tells; `before` is what it told before.

    The cluster gives the full reason for a failed pull only until it waits for the next try.
    """
    status = pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            reason = condition.get("message") or condition.get("reason", "")
            return Trouble(f"worker {name(pod)} can't be placed: {reason}", blocked=False)
    for container in _containers(status):
        waiting = container.get("state", {}).get("waiting")
        if waiting is None or waiting.get("reason", "") in _ON_ITS_WAY:
            continue
        if waiting["reason"] in _BACKING_OFF and before is not None and _is_about(before, container):
            return before
        return Trouble(_sentence(pod, container, _reason(container, waiting)), blocked=True)
    return None


def is_stuck(pod: Object) -> bool:
    """Whether its containers are being made, which is all that its state tells: its events may tell more."""
    return any(
        container.get("state", {}).get("waiting", {}).get("reason") in ("ContainerCreating", "PodInitializing")
        for container in _containers(pod.get("status", {}))
    )


def trouble_of_events(pod: Object, events: Sequence[Object]) -> Trouble | None:
    """What the newest warning says of a pod that is stuck."""
    warnings = [event for event in events if event.get("type") == "Warning" and event.get("reason") != "BackOff"]
    if not warnings:
        return None
    newest = max(warnings, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    text = f"worker {name(pod)} can't be started: {newest.get('reason', '')}: {newest.get('message', '')}"
    return Trouble(text, blocked=newest.get("reason") != "FailedScheduling")


def loss(pod: Object) -> str:
    """Why a pod ends, or has ended, that was not told to by us; empty where nothing says so."""
    status = pod.get("status", {})
    if status.get("phase") == "Failed":
        reason = ": ".join(word for word in (status.get("reason"), status.get("message")) if word)
        return f"worker {name(pod)} has failed: {reason or 'the cluster gives no reason'}"
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            reason = condition.get("message") or condition.get("reason", "")
            return f"worker {name(pod)} is taken away: {reason}"
    return ""


def restarts(pod: Object) -> dict[str, int]:
    """How often each container was started again."""
    return {one["name"]: one.get("restartCount", 0) for one in _containers(pod.get("status", {}))}


def last_end(pod: Object, container: str) -> str:
    """How a container ended that was started again."""
    for one in _containers(pod.get("status", {})):
        ended = one.get("lastState", {}).get("terminated")
        if one["name"] == container and ended is not None:
            return _sentence(pod, one, f"it ended, {_end(ended)}")
    return f"worker {name(pod)}: its container {container} ended"


def is_usable(node: Object) -> bool:
    """Whether workers can be placed on a node: it is ready, not cordoned, and has no taint that keeps them off."""
    spec = node.get("spec", {})
    if spec.get("unschedulable") or any(taint.get("effect") in _UNTOLERATED for taint in spec.get("taints") or ()):
        return False
    conditions = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _containers(status: Object) -> Iterable[Object]:
    for group in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(group) or ()


def _sentence(pod: Object, container: Object, reason: str) -> str:
    return f"worker {name(pod)}: {_subject(container)}: {reason}"


def _subject(container: Object) -> str:
    return f"container {container['name']} of image {container.get('image', '')}"


def _is_about(before: Trouble, container: Object) -> bool:
    return f": {_subject(container)}: " in before.text


def _reason(container: Object, waiting: dict[str, Any]) -> str:
    found = ": ".join(word for word in (waiting["reason"], waiting.get("message", "")) if word)
    ended = container.get("lastState", {}).get("terminated")
    return f"{found} ({_end(ended)})" if ended is not None else found


def _end(ended: dict[str, Any]) -> str:
    words = [ended.get("reason", ""), f"exit status {ended.get('exitCode', 0)}", ended.get("message", "").strip()]
    return ", ".join(word for word in words if word)
