"""Calls recorded from a Pachyderm 1.5.3 server, replayed: the same answers, ids and hashes apart."""

from __future__ import annotations

import json
import re
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, message_factory

from pachproto import pfs_pb2
from tests.support.daemons import Daemon
from tests.support.places import DATA

RECORDED = json.loads((DATA / "recorded-1.5.json").read_text())
API = pfs_pb2.DESCRIPTOR.services_by_name["API"]
SETS = {"file_info", "repo_info", "branch_info", "children", "provenance"}
"""Lists whose order is free."""
DEFECTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
}


class Replay:
    """One scenario: remembers the ids it was given and the symbols that stand for ids and hashes."""

    def __init__(self, daemon: Daemon) -> None:
        self._stub = daemon.pfs
        self._saved: dict[str, str] = {}
        self._ids: dict[str, str] = {}
        self._hashes: dict[str, str] = {}

    def call(self, step: dict[str, Any]) -> Any:
        method = API.methods_by_name[step["call"]]
        kind = message_factory.GetMessageClass(method.input_type)
        request = self._substitute(step["request"])
        messages = [_parse(kind, item) for item in request] if isinstance(request, list) else [_parse(kind, request)]
        call = getattr(self._stub, method.name)
        try:
            answer = call(iter(messages) if method.client_streaming else messages[0], timeout=20)
            if not method.server_streaming:
                if "save" in step:
                    self._saved["$" + step["save"]] = answer.id
                return self._symbols(_dict(answer))
            answers = list(answer)
        except grpc.RpcError as error:
            defect = error.code() in DEFECTS or not error.details()
            return {"error": f"{error.code()}: {error.details()}" if defect else True}
        if method.name == "GetFile":
            return {"bytes": b"".join(message.value for message in answers).decode()}
        return [self._symbols(_dict(message)) for message in answers]

    def _substitute(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._substitute(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._substitute(item) for item in value]
        return self._saved.get(value, value) if isinstance(value, str) else value

    def _symbols(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._field(name, item) for name, item in value.items() if name not in ("objects", "tree")}
        if isinstance(value, list):
            items = sorted(value, key=_without_hashes) if key in SETS else value
            done = [self._symbols(item) for item in items]
            return sorted(done, key=lambda item: json.dumps(item, sort_keys=True)) if key in SETS else done
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{32}", value):
            return self._ids.setdefault(value, f"C{len(self._ids) + 1}")
        return value

    def _field(self, name: str, value: Any) -> Any:
        if name in ("created", "started", "finished"):
            return True
        if name == "hash":
            return self._hashes.setdefault(value, f"H{len(self._hashes) + 1}")
        return self._symbols(value, name)


def _parse(kind: Any, fields: Any) -> Any:
    message = kind()
    for name, value in fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.type == field.TYPE_BYTES:
            setattr(message, name, value.encode())
        else:
            json_format.ParseDict({name: value}, message)
    return message


def _dict(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _without_hashes(item: Any) -> str:
    kept = (
        {key: value for key, value in item.items() if key not in ("hash", "objects")}
        if isinstance(item, dict)
        else item
    )
    return json.dumps(kept, sort_keys=True)


@pytest.mark.parametrize("scenario", RECORDED)
def test_a_recorded_scenario_replays_without_a_difference(daemon: Daemon, scenario: str) -> None:
    replay = Replay(daemon)
    differences = []
    for number, step in enumerate(RECORDED[scenario]):
        got = replay.call(step)
        if got != step["response"]:
            differences.append((number, step["call"], step["request"], step["response"], got))
    assert differences == []
