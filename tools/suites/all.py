"""Every suite there is."""

from __future__ import annotations

from tools.suites import fio, fsx, pjdfstest, stress
from tools.suites.suite import Suite

SUITES: tuple[Suite, ...] = (pjdfstest.SUITE, fsx.SUITE, fio.SUITE, stress.SUITE)
