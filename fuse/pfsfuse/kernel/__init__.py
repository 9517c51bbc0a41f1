"""What the kernel is told and remembers: inodes, names, errors, mounts and namespaces."""
