"""``streamproc worker`` that looks every second whether a snapshot is due, and takes one after a few records: otherwise
it would be minutes.
"""

from __future__ import annotations

import sys

from streamproc.cli.main import main
from streamproc.runtime import snapshots

snapshots._EVERY, snapshots._LEAST = 1.0, 200

if __name__ == "__main__":
    sys.exit(main(["worker", *sys.argv[1:]]))
