"""`python -m gpae.cli`."""

import sys

from gpae.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
