"""``python -m models.stub``: one replica of a stub model cluster. Runs until SIGTERM."""

from __future__ import annotations

from lab.transport import run_service
from models.stub.options import parse_options
from models.stub.replica import Replica

if __name__ == "__main__":
    run_service(lambda stop: Replica(parse_options()).run(stop))
