"""The key engines that tests run over; without `awscrt` aws-lc is skipped, but not where the wheel is tested."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

_LACKING = find_spec("awscrt") is None and "BATCH_ISSUER_TEST_WHEEL" not in os.environ
need_awscrt = pytest.mark.skipif(_LACKING, reason="awscrt is not installed (the extra fast)")

each_engine = pytest.mark.parametrize("engine", ["openssl", pytest.param("aws-lc", marks=need_awscrt)])
