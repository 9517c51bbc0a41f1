"""What people name, and how it is kept: repos, commits, branches, the tree of an open commit."""
