"""Commands about the daemon, its cluster and its mounts."""
