"""What a worker mounts at /pfs: the datum in hand, and inputs that are read when they are opened."""
