"""``python -m tests.negative.page`` tries all that must not work, and writes docs/refusals.md: what became of it."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from lab.checkout import CHECKOUT
from tests.negative.cases import CASES
from tests.negative.scene import standing

PAGE = CHECKOUT / "docs" / "refusals.md"
HEAD = """\
# Refusals

What must not work, by which way it was tried, which unit refused it, and what the client was told; with certificates
(as `lab up` makes it), real Envoy and real gRPC. After each the next good call by the same way is answered. `make
refusals-page` tries all of it and writes this page; the suite tries all of it and holds this page to be true.

A handshake that a gRPC server ends reaches the client as `UNAVAILABLE` without a word: the reason is what the server's
own log says. `RESET` and `CLOSED` are HTTP/2's: a stream or connection ended, to a gRPC client `UNAVAILABLE` or
`INTERNAL`; the reason is what Envoy counts it as. `OK` stands where there is nothing to refuse: what was sent changes
nothing. Bounds are 64 MiB a message, 16 KiB of headers, 100 headers at an Envoy, 1,024 streams a connection there and
4,096 at a gRPC server, and 10 s for a handshake or for headers to be complete.

| attack | way | refused by | status | reason |
|---|---|---|---|---|
"""


def main() -> int:
    wrong, rows = 0, []
    with tempfile.TemporaryDirectory() as folder, standing(Path(folder)) as scene:
        for case in CASES:
            answer = case.attempt(scene)
            as_it_should = case.status == answer.status and re.search(case.reason, answer.reason)
            wanting = "" if as_it_should else f"got {answer}"
            if wanting := wanting or scene.good_call(case.way):
                print(f"{case.name}: {wanting}", file=sys.stderr)  # noqa: T201 (a command)
                wrong += 1
            rows.append(case.row(answer))
    if not wrong:
        PAGE.write_text(HEAD + "\n".join(rows) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
