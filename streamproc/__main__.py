"""``python -m streamproc`` is the command ``streamproc``."""

import sys

from streamproc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
