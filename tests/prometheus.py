"""Debian's Prometheus, as a process of a test's own."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from math import isnan
from pathlib import Path
from typing import Any

from lab.waiting import eventually
from tests.missing import missing
from tests.ports import free_port

_WITHIN = timedelta(seconds=30)


def program(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``; skips the test where it is not installed."""
    return shutil.which(name) or missing(f"{name} is not installed: make prometheus")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server.

    Attributes:
        url: where it answers.
    """

    url: str

    def query(self, query: str) -> list[dict[str, Any]]:
        """The present series of a query, each with ``metric`` and ``value``."""
        return list(self._get("query", query=query)["result"])

    def has_numbers(self, query: str) -> bool:
        """Whether a query has series, and one of them a number."""
        return any(not isnan(float(each["value"][1])) for each in self.query(query))

    def targets(self) -> dict[str, str]:
        """Unit → health of its target."""
        active = self._get("targets", state="active")["activeTargets"]
        return {each["labels"]["unit"]: each["health"] for each in active}

    def _get(self, what: str, **parameters: str) -> Any:
        url = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (an address of the test's own)
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10) as answer:  # noqa: S310 (same)
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def running_prometheus(configuration: Path, data: Path) -> Iterator[Prometheus]:
    """A server with this configuration, on a port and with its own folder, for the block."""
    port = free_port()
    command = [
        *(program("prometheus"), "--config.file", str(configuration), "--storage.tsdb.path", str(data)),
        *("--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warn"),
    ]
    log = data.with_suffix(".log")
    with log.open("w") as errors, subprocess.Popen(command, stderr=errors, stdout=errors) as process:
        try:
            server = Prometheus(f"http://127.0.0.1:{port}")
            eventually(f"Prometheus answers, see {log}", server.is_ready, within=_WITHIN)
            yield server
        finally:
            process.terminate()
