"""A host whose clock is LEXISEG_TEST_SKEW seconds ahead: `--include tests.skewed_clock`."""

import os
import time

_real = time.time
_ahead = float(os.environ["LEXISEG_TEST_SKEW"])
time.time = lambda: _real() + _ahead
