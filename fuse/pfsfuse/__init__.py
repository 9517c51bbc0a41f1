"""The file systems that people and containers read: pyfuse3 over the trees and chunks of a daemon.

`mount` is the process behind `pachctl mount`. Below it, each room using those that follow:

- `repository`: MOUNT/REPO/BRANCH/PATH and open commits, which can be written; `job`: /pfs of a worker
- `kernel`: what the kernel is told and remembers
- `content`: nodes, directories and bytes
- `client`: the daemon
"""

import importlib
import logging
import os
import sys


def _stand_in() -> None:
    """See `csrc/answers/module.c`: its symbols have to be there before pyfuse3 looks for them."""
    before = sys.getdlopenflags()
    sys.setdlopenflags(before | os.RTLD_GLOBAL)
    try:
        importlib.import_module("pfsfuse._answers")
    except ImportError as error:
        logging.getLogger(__name__).info("closing files costs a request each, and cp takes no lazy inputs: %s", error)
    finally:
        sys.setdlopenflags(before)


_stand_in()
