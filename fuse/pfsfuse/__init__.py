"""The file systems that people and containers read: pyfuse3 over the trees and chunks of a daemon.

`daemon` calls the daemon in threads, with patience while it is away. Over it `content` reads nodes,
directories and bytes (`nodes` and `chunks` are its caches), and `commits` resolves branches and commit ids.
`view` answers the kernel for immutable trees below directories that a daemon's state makes up; `repoview`
(MOUNT/REPO/BRANCH/PATH) and `jobview` (/pfs of a worker) say which. `serve` runs either, `mount` is the
process behind `pachctl mount`, `mounts` finds and ends mounts, `namespace` gives a worker its own /pfs,
`errnos` maps errors to errno values. `kernelcache` and `notify` tell the kernel what to keep and to forget.

Open commits can be written: `writable` answers those requests, `opencommit` sends what was written (`waiting`,
`delivery`, `sending`, `writes`), `opennodes` are its files and directories, `scratch` holds what is written to a
file, `kept` what could not be sent.
"""

import importlib
import logging
import os
import sys


def _stand_in() -> None:
    """See `csrc/answers.c`: its symbols have to be there before pyfuse3 looks for them."""
    before = sys.getdlopenflags()
    sys.setdlopenflags(before | os.RTLD_GLOBAL)
    try:
        importlib.import_module("pfsfuse._answers")
    except ImportError as error:
        logging.getLogger(__name__).info("closing files costs a request each, and cp takes no lazy inputs: %s", error)
    finally:
        sys.setdlopenflags(before)


_stand_in()
