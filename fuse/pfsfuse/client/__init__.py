"""The daemon as a mount sees it: calls, commits, writes, the leases it holds."""
