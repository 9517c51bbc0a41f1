"""The terminal and the connection: how a line is read, a daemon is called, and an answer is printed."""
