"""`python -m peftrec`, which `accelerate launch -m peftrec` needs."""

import sys

from peftrec.cli import main

if __name__ == "__main__":
    sys.exit(main())
