"""The file system over a root: what services call. `store` holds it together."""
