"""Holds the two interpreters against each other on as many pairs as asked for: ``python -m tests.routing.fuzz``."""

import argparse
import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from lab.routing.compiled import Router
from tests.routing.generated import REQUESTS_PER_TABLE, by_plain, by_router, requests, tables
from tests.tools import run_tool

PAIRS = 1_000_000
TABLES_PER_CHUNK = 50
_SAY_EVERY_S = 5.0


def compare(chunk: tuple[int, int]) -> int:
    """Compares a chunk, given by its seed and its number of tables, and returns the number of pairs."""
    seed, count = chunk
    compared = 0

    @seeded(seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(tables(), st.integers(0, 1 << 32))
    def agree(document: dict[str, Any], requests_seed: int) -> None:
        nonlocal compared
        router = Router.of_document(document, revision=1)
        for request in requests(requests_seed):
            assert by_plain(document, request) == by_router(router, document, request), request
            compared += 1

    agree()
    return compared


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.routing.fuzz", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs of table and request, at least")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of what is generated")
    chosen = parser.parse_args(arguments)
    chunks = -(-chosen.pairs // (REQUESTS_PER_TABLE * TABLES_PER_CHUNK))
    per_chunk = -(-chosen.pairs // (REQUESTS_PER_TABLE * chunks))
    work = [(chosen.seed + number, per_chunk) for number in range(chunks)]
    began = said = time.monotonic()
    compared = 0
    print(f"seed {chosen.seed}: {chosen.pairs:,} pairs in {chosen.workers} processes")  # noqa: T201 (a command)
    with multiprocessing.get_context("spawn").Pool(chosen.workers) as pool:
        for pairs in pool.imap_unordered(compare, work):
            compared += pairs
            now = time.monotonic()
            if now - said >= _SAY_EVERY_S:
                said = now
                left = (now - began) * (chosen.pairs / compared - 1)
                print(f"{compared:,} of {chosen.pairs:,}, {max(left, 0):.0f} s to go", flush=True)  # noqa: T201
    took = time.monotonic() - began
    print(f"{compared:,} pairs (table, request): both interpreters agree; {took:.0f} s")  # noqa: T201
    return 0 if compared >= chosen.pairs else 1


if __name__ == "__main__":
    sys.exit(run_tool(main))
