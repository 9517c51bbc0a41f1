"""Reading: nodes of trees, directories and bytes, from caches, packs or the daemon."""
