"""What people write to name things: repos, branches, paths, ancestors, `pfs://` addresses, sizes. Pure."""
