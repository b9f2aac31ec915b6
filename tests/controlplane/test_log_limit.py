"""The control plane's own log: nobody fills it, hides others' lines in it, or loses the count of what it leaves out."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import grpc
import psutil
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from lab.transport import open_blocking_channel
from lab.waiting import eventually
from services.controlplane.log_limit import MOST_CHARACTERS, MOST_LINES, LogLimit, drop_beginning
from services.controlplane.xds.resources import LISTENER

SOON = timedelta(seconds=20)


class Lines(logging.Handler):
    """Keeps what is written."""

    def __init__(self, limit: LogLimit) -> None:
        super().__init__()
        self.written: list[str] = []
        self.addFilter(limit)

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(record.getMessage())


def _port_of(pid: int) -> int:
    """The port at which a process listens, 0 if it does not yet."""
    listening = (each.laddr.port for each in psutil.Process(pid).net_connections() if each.status == psutil.CONN_LISTEN)
    return next(listening, 0)


def test_lines_of_one_kind_are_limited_counted_and_hide_no_other() -> None:
    now = 0.0
    limit = LogLimit(lambda: now)
    lines = Lines(limit)
    root = logging.getLogger()
    root.addHandler(lines)
    try:
        log = logging.getLogger("services.flooded")
        for number in range(1_000):
            log.warning("refused: %s", number)
        log.warning("publishing revision %d", 2)
        assert lines.written == [*(f"refused: {number}" for number in range(MOST_LINES)), "publishing revision 2"]

        limit.report()
        assert len(lines.written) == MOST_LINES + 1
        now = 60.0
        limit.report()
        limit.report()
        assert lines.written[MOST_LINES + 1 :] == [
            f"940 lines were left out of this log, the first of them: refused: {MOST_LINES}"
        ]

        log.warning("x" * 1_000_000)
        assert lines.written[-1] == f"{'x' * MOST_CHARACTERS}… (1000000 characters)"
    finally:
        root.removeHandler(lines)


def test_the_beginning_of_a_large_log_is_dropped_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "log"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(1_000):
        os.write(descriptor, f"line {number}\n".encode())
    size = file.stat().st_size

    drop_beginning(descriptor, most=size, kept=100)
    assert file.stat().st_size == size
    drop_beginning(descriptor, most=size - 1, kept=100)
    os.write(descriptor, b"more\n")
    os.close(descriptor)

    first, *others = file.read_text().splitlines()
    kept = sum(len(each) + 1 for each in others[:-1])
    assert first == f"{size - kept} bytes were dropped here: this log has {size - 1} bytes at most"
    assert others == [*(f"line {number}" for number in range(1_000 - len(others) + 1, 1_000)), "more"]


def test_a_flood_of_refused_nodes_leaves_few_lines_and_their_count(tmp_path: Path) -> None:
    """By the real process, whose count comes at its end at the latest."""
    (tmp_path / "nodes.json").write_text('{"proxyless": ["homepage"]}')
    address = "127.0.0.1:0"
    argv = [sys.executable, "-m", "services.controlplane", "--registry", str(tmp_path / "registry")]
    argv += ["--nodes", str(tmp_path / "nodes.json"), "--listen", address]
    with (tmp_path / "log").open("ab") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        del log
        try:
            port = eventually("it listens", lambda: _port_of(process.pid), within=SOON)
            with open_blocking_channel(f"127.0.0.1:{port}") as channel:
                stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
                for number in range(MOST_LINES + 40):
                    node = base_pb2.Node(id=f"evil-{number}", cluster="homepage")
                    asked = discovery_pb2.DiscoveryRequest(node=node, type_url=LISTENER)
                    with pytest.raises(grpc.RpcError, match="PERMISSION_DENIED"):
                        next(stub.StreamAggregatedResources(iter([asked]), timeout=5))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)

    written = (tmp_path / "log").read_text()
    assert written.count("WARNING services.controlplane.nodes.admission: refused: node 'evil-") == MOST_LINES
    assert "40 lines were left out of this log, the first of them: refused: node 'evil-60'" in written
