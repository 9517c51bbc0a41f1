"""The gRPC services of pipelines, and the service put together."""
