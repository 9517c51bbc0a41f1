"""What people mount: repos, branches and commits, and open commits that can be written."""
