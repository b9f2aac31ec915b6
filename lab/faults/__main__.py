"""``python -m lab.faults``: prints the table of ``docs/faults.md``."""

from __future__ import annotations

import sys

from lab.faults.page import table

if __name__ == "__main__":
    sys.stdout.write(table())
