"""``python -m featherweight``: the command line."""

import sys

from featherweight.cli import main

if __name__ == "__main__":
    sys.exit(main())
