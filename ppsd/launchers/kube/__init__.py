"""The Kubernetes launcher: a pipeline's workers are the pods of a replication controller.

`manifest` and `names` say what is asked of the cluster, `podstates` reads what it answers: pure. `settings` are what a
deployment chooses, `cluster` talks to the API server, `launcher` is the `Launcher`.
"""
