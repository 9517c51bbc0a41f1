"""The file system: storage, repos and commits, and the gRPC services over them. ARCHITECTURE.md shows the floors."""
