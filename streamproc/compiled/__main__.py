"""``python -m streamproc.compiled``: compiles the kernels, so that nothing waits for that later."""

from __future__ import annotations

from streamproc.compiled import prepare

prepare()
