"""The pipeline service: specs, jobs, the engine, launchers and workers. ARCHITECTURE.md shows the floors."""
