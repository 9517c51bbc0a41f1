"""The gRPC services over the store: the only place, with the clients, where protobuf messages are known."""
