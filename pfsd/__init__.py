"""A versioned, deduplicating file system of commits, served over gRPC.

At the top are the server and what every package speaks with: `rpc`, `statuses`, `errors`. Below them are floors, each
using those that follow:

- `services`, `calls`: the gRPC services, and what they share
- `fetching`: what URLs point to
- `upkeep`: garbage collection, checks, formats
- `filesystem`: files of commits, over `model`: repos, commits, branches
- `chunks`: contents in packs, which lie in `objectstores`
- `trees`: directories as search trees; `clouds`: stores of users
- `local`: the daemon's own disk
- `names`, `runtime`: what people write, and how work runs
"""
