"""Search trees of content-addressed nodes, and what their values mean: directories, files, globs over them."""
