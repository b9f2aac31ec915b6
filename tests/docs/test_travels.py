"""docs/travels.md shows what really happens: a real lab, the same calls, the same lines in the same logs."""

import re
from collections.abc import Callable
from pathlib import Path

from docs.site.blocks import marked
from docs.site.travels import PAGE, travel, written
from lab.lab import Lab

ID = re.compile(r"request_id: (\S+),")
# What differs from one call to the next: ids, times, ports; and where the lines are broken because of them.
CHANGING = re.compile(r"(request_id|ms|upstream): [^,\s]+")

ON_THE_WAY = {
    "travels.mesh": ["caller", "resolver", "sidecar", "model"],
    "travels.mesh-leased": ["caller", "sidecar", "model"],
    "travels.gateway": ["caller", "gateway", "model"],
}


def test_the_page_follows_one_request_by_its_id_through_every_log(new_lab: Callable[[], Lab]) -> None:
    lab = new_lab()
    lab.up(spec=Path("mini"), runtime="process", log_requests=True)

    seen = travel(lab)

    shown = marked(PAGE, "block")
    assert set(ON_THE_WAY) == set(seen) == set(shown)
    for name, lines in seen.items():
        assert ON_THE_WAY[name] == [line.role for line in lines], name
        assert len({line.fields["request_id"] for line in lines}) == 1, name
        assert _lasting(shown[name]) == _lasting(written(lines)), f"{name}: `make figures` writes the page anew"
        assert len(set(ID.findall(shown[name]))) == 1, name


def _lasting(text: str) -> str:
    return CHANGING.sub(r"\1: …", " ".join(text.split()))
