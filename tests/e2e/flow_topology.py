"""The flows of :mod:`tests.runtime.flow_kit`, for workers. ``$STREAMPROC_TEST_NAME`` is the app's name,
``$STREAMPROC_TEST_GUARANTEE`` what it guarantees.
"""

from __future__ import annotations

import os

from tests.runtime.flow_kit import build

NAME, GUARANTEE = "STREAMPROC_TEST_NAME", "STREAMPROC_TEST_GUARANTEE"
app = build(os.environ.get(NAME, "shop"), os.environ.get(GUARANTEE, "at_least_once"), idle="3s")
