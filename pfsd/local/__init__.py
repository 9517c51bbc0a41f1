"""What lies on the daemon's own disk: synced files, the metadata database, growing packs and their journal."""
