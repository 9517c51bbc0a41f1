"""The file systems that people and containers read: pyfuse3 over the trees and chunks of a daemon.

`client` calls the daemon, with patience while it is away. Over it `content` reads nodes, directories and bytes.
`kernel` answers the kernel for trees that never change, and for the directories above them, which do. Two packages say
what is shown: `repository` what people mount (MOUNT/REPO/BRANCH/PATH), with open commits that can be written, and `job`
what a worker mounts at /pfs. `mount` is the process behind `pachctl mount`.
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
