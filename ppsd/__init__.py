"""Data pipelines over the file system: a pipeline's command runs over every new commit of its inputs.

`main` is the service in a process of its own. Below it are floors, each using those that follow:

- `services`: the gRPC services
- `launchers`: what starts workers
- `engine`: pipelines and jobs; `worker`: the process that computes datums
- `storage`: the daemon, and the records kept there
- `specs`: specs and what they are made of
"""
