"""Open commits that are written through a mount: what is shown of them, what waits, and how it is sent."""
