"""Where sealed packs live: a directory or S3, behind a cache of blocks."""
