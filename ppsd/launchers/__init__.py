"""What starts workers: processes of this machine, or pods of a cluster."""
