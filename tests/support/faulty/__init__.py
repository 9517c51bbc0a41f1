"""Things that fail as told: disks, networks, stores that are damaged, daemons that are killed or defective."""
