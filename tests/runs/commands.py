"""Commands of the lab in this process."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from lab.cli import main


def exit_status(*arguments: object) -> Any:
    """Returns how ``lab`` with these arguments exits."""
    before, sys.argv = sys.argv, ["lab", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        sys.argv = before
    return caught.value.code
