"""How work runs in a process of this project: threads and turns, background tasks, retries, cancelling, the end."""
