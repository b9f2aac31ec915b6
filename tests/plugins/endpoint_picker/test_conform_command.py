"""``lab conform --profile endpoint-picker`` and ``--test-picker``, as people type them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.lab_command import json_of, run_lab
from tests.plugins.endpoint_picker.test_picker_profile import DuplexPicker, serving
from tests.ports import free_port


def test_the_reference_gateway_is_started_tried_and_described(tmp_path: Path) -> None:
    needed = tmp_path / "pools.json"
    options = ("--control", "picking-envoy", "--checks", "pick,served", "--routes-out", needed, "--json")
    done = run_lab(None, "conform", f"127.0.0.1:{free_port()}", "--profile", "endpoint-picker", *options)

    assert {each["feature"]: each["verdict"] for each in json_of(done)["results"]} == {"pick": "pass", "served": "pass"}
    pools = json.loads(needed.read_text())["pools"]
    assert {key: pool["failure"] for key, pool in pools.items()} == {
        "pool-open.v1": "FailOpen",
        "pool-closed.v1": "FailClose",
        "pool-subset.v1": "FailClose",
    }
    assert len(pools["pool-open.v1"]["endpoints"]) == 3


async def test_a_foreign_picker_is_tried_and_a_failed_check_is_status_2() -> None:
    async with serving(DuplexPicker("no metadata")) as address:
        options = ("--test-picker", address, "--send", "x-tier=gold", "--checks", "health,pick", "--json")
        done = await asyncio.to_thread(run_lab, None, "conform", *options)
    results = {each["feature"]: each for each in json_of(done, statuses=(2,))["results"]}
    assert {name: each["verdict"] for name, each in results.items()} == {"health": "pass", "pick": "fail"}
    assert "the metadata nothing; both must be equal" in results["pick"]["reason"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--profile", "endpoint-piker"), "did you mean 'endpoint-picker'?"),
        (("--profile", "endpoint-picker", "--test-picker"), "leave one of the two out"),
        (("--profile", "endpoint-picker", "--envelope"), "leave them out"),
        (("--test-picker", "--send", "x tier=1"), "is not NAME=VALUE"),
        (("--send", "x-tier=1"), "--send: is for --test-picker"),
        (("--test-picker",), "nobody listens"),
    ],
)
def test_what_cannot_be_tried_is_said_in_a_line(options: tuple[str, ...], message: str) -> None:
    done = run_lab(None, "conform", f"127.0.0.1:{free_port()}", *options)
    assert (done.returncode, message in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr
