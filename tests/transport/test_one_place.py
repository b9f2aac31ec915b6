"""Channels and servers are opened in one place only, so credentials come from one place."""

import re

from lab import CHECKOUT

ROOMS = ("lab", "services", "models")
MAKERS = re.compile(r"\b(insecure_channel|secure_channel|add_insecure_port|add_secure_port|aio\.server)\(")


def test_channels_and_servers_are_opened_only_in_lab_transport() -> None:
    made = {
        str(path.relative_to(CHECKOUT))
        for room in ROOMS
        for path in (CHECKOUT / room).rglob("*.py")
        if MAKERS.search(path.read_text()) and not path.name.endswith("_pb2_grpc.py")
    }

    # Conformance is before and behind somebody else's proxy, with credentials that its user names.
    foreign = {f"lab/plugins/conform/{each}.py" for each in ("models", "target")}
    foreign.add("lab/plugins/endpoint_picker/conformance/scripted.py")
    assert made == {f"lab/transport/{each}.py" for each in ("channels", "servers", "xds")} | foreign
