"""gRPC stubs and handlers built from the message descriptors, for every package that speaks on the wire."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError

from pfsd.errors import InvalidError

MAX_MESSAGE_BYTES = 1 << 30
"""Largest message accepted: a list of a million files comes back to a 1.5 client in one message."""

CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]

DEFAULT_ADDRESS = "127.0.0.1:30650"

Wrap = Callable[[MethodDescriptor, Any], Any]
Serializer = Callable[[MethodDescriptor], Callable[[Any], bytes]]

Services = Sequence[tuple[ServiceDescriptor, object]]
"""What a server serves: services, each with what implements it."""


class Stub:
    """A client of one service: `Stub(channel, pfs_pb2.DESCRIPTOR.services_by_name["API"]).ListRepo(request)`.

    Works on synchronous and asyncio channels alike.
    """

    def __init__(self, channel: Any, service: ServiceDescriptor) -> None:
        for method in service.methods:
            kind = _kind("stream" if method.client_streaming else "unary", method)
            make = getattr(channel, kind)
            call = make(
                f"/{service.full_name}/{method.name}",
                request_serializer=serialize,
                response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the service has no method {name}")


def handler(
    service: ServiceDescriptor, implementation: object, wrap: Wrap, serializer: Serializer = lambda _: serialize
) -> grpc.GenericRpcHandler[Any, Any]:
    """A generic handler that serves `service` with the methods of `implementation`.

    `wrap(method, function)` returns what the server calls, with requests as they came: it is to `decode` them, because
    grpc answers INTERNAL for what it can't decode. Methods that `implementation` lacks answer UNIMPLEMENTED.
    """
    methods = {}
    for method in service.methods:
        function = getattr(implementation, method.name, None)
        if function is None:
            continue
        make = getattr(grpc, _kind("stream" if method.client_streaming else "unary", method) + "_rpc_method_handler")
        methods[method.name] = make(
            wrap(method, function),
            response_serializer=serializer(method),
        )
    return grpc.method_handlers_generic_handler(service.full_name, methods)


def decode(method: MethodDescriptor, data: bytes) -> Any:
    """The request of `method` that came as `data`; raises InvalidError for what is none."""
    try:
        return message_factory.GetMessageClass(method.input_type).FromString(data)
    except DecodeError as error:
        raise InvalidError(f"the request of {method.full_name} is no {method.input_type.full_name}: {error}") from None


def _kind(request: str, method: MethodDescriptor) -> str:
    return f"{request}_{'stream' if method.server_streaming else 'unary'}"


def serialize(message: Any) -> bytes:
    """The bytes of a message."""
    if isinstance(message, bytes):  # a large one was serialized before, outside of the server's loop
        return message
    data: bytes = message.SerializeToString()
    return data
