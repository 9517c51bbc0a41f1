"""What starts workers: processes of this machine, or pods of a cluster."""

LAUNCHERS = ("local", "kubernetes")
"""What may run workers: this machine, or the cluster that this process is in or KUBECONFIG names."""
