"""``python -m models.stub``: one replica of a stub model cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from lab.errors import LabError
from lab.transport import run_service
from models.stub.options import Options, parse_options
from models.stub.replica import Replica

if TYPE_CHECKING:
    import asyncio


async def _serve(options: Options, stop: asyncio.Event) -> None:
    await Replica(options).run(stop)


def main() -> None:
    """Runs until SIGTERM; exits 1 with one line if it cannot start."""
    try:
        options = parse_options()
    except LabError as error:
        sys.exit(str(error))
    run_service(lambda stop: _serve(options, stop))


if __name__ == "__main__":
    main()
