"""Programs for those who work on the project: demo, benchmarks, images, a test cluster. They are not installed."""
