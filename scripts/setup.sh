#!/usr/bin/env bash
# Makes the virtual environment $1 with exactly the locked dependencies and this project in it, by uv where it is found, else by venv and pip, and
# compiles the kernels and fetches the embedded Kafka's parts. Works offline once everything is there.
set -euo pipefail
venv=$1
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "setup: needs Python 3.11 or later as '$python'; name another with: make PYTHON=/path/to/python3.12 …" >&2
    exit 1
}
echo "setup: installing the locked dependencies into $venv (the first time downloads about 400 MB)"
if command -v uv >/dev/null 2>&1; then
    [ -x "$venv/bin/python" ] || uv venv --quiet --seed --python "$python" "$venv"
    uv pip sync --python "$venv/bin/python" --require-hashes requirements.lock
    uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
else
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
        echo "setup: could not make $venv; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    }
    pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
    # One line per package that is really downloaded, and whatever goes wrong.
    pip install --progress-bar off --require-hashes --no-deps --requirement requirements.lock |
        { grep --line-buffered -E '^ *(Downloading|ERROR)' || true; }
    pip install --quiet --no-deps --no-build-isolation --editable .
fi
"$venv/bin/python" -m streamproc.compiled
"$venv/bin/streamproc" broker --fetch
echo "setup: done"
