"""The parts of a check of a root, and of its repair."""
