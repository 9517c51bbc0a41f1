"""`pfsfuse.mount` in which chosen functions fail: see `tests.support.faulty.defects`."""

from __future__ import annotations

import sys

from pfsfuse.mount import main
from tests.support.faulty.defects import OF_MOUNTS, break_in

if __name__ == "__main__":
    break_in(OF_MOUNTS)
    sys.exit(main())
