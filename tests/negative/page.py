"""``python -m tests.negative.page`` tries every attack, and writes the results to docs/refusals.md."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from lab import CHECKOUT
from tests.negative.cases import CASES
from tests.negative.scene import standing

PAGE = CHECKOUT / "docs" / "refusals.md"
HEAD = """\
# Refusals

Everything that must be refused: the attack, the topology through which it was tried, the unit that refused it, and the
client's error. The lab has certificates (the default of `lab up`), real Envoy and real gRPC. After each attack the next
legitimate call through the same topology is answered. `make refusals-page` tries all attacks and writes this page; the
test suite tries them all and verifies each row.

If a gRPC server aborts a handshake, the client gets `UNAVAILABLE` without a reason; the reason here is from the
server's log. `RESET` and `CLOSED` are HTTP/2 events: the stream or the connection was ended, which gRPC clients see as
`UNAVAILABLE` or `INTERNAL`; the reason is the Envoy counter that increased. `OK` means that there is nothing to refuse:
what was sent has no effect. `REFUSED` is the operating system's own refusal. The bounds are 64 MiB per message, 16 KiB
of headers, 100 headers at an Envoy, 1,024 streams per connection there and 4,096 at a gRPC server, and 10 s for a
handshake or for the headers.

| attack | topology | refused by | status | reason |
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
