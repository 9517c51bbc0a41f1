"""A worker: shows a datum's inputs, runs the user's command, stores what it wrote."""
