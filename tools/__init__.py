"""Programs around the daemon: `pachctl`, the demo, the benchmarks."""
