"""``lab conform`` as a user runs it: what it prints, writes and refuses, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import psutil
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from markupsafe import escape

from lab import CHECKOUT
from lab.identity import Identity
from lab.identity.authority import Authority
from lab.waiting import eventually
from tests.lab_command import LAB, json_of, refusal, run_lab
from tests.plugins.conform.proxy import Proxy, Side
from tests.ports import free_port, free_row

FEW = "unknown-key,config-change,method-matching"


@contextmanager
def own_proxy(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """The example of a proxy of one's own: address, the command that changes its routes, the one that drains it."""
    port, routes = free_port(), folder / "routes.json"
    routes.write_text('{"header": "x-routing-key", "routes": []}')
    program = [sys.executable, str(CHECKOUT / "docs" / "examples" / "own_proxy.py"), str(port), str(routes)]
    with subprocess.Popen(program) as proxy:
        apply, drain = folder / "apply.sh", folder / "drain.sh"
        apply.write_text(f'#!/bin/sh\ncp "$1" {routes}.new && mv {routes}.new {routes} && kill -HUP {proxy.pid}\n')
        drain.write_text(f"#!/bin/sh\nkill {proxy.pid}\n")
        for script in (apply, drain):
            script.chmod(0o700)
        try:
            eventually("the proxy listens", lambda: listens(port), within=timedelta(seconds=30))
            yield f"127.0.0.1:{port}", apply, drain
        finally:
            proxy.terminate()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def conform(address: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command while this loop serves."""
    return await asyncio.to_thread(run_lab, None, "conform", address, *arguments)


@asynccontextmanager
async def serving(handler: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that treats its connections so."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await handler(reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)  # transports close in the next turn of the loop


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """A folder with ``ca.pem``, ``cert.pem`` and ``key.pem``, for 127.0.0.1."""
    authority = Authority.create(tmp_path / "pki", lifetime_s=3600)
    authority.issue("proxy", Identity("gateway", "proxy"), ["127.0.0.1"])
    [folder] = {file.parent for file in (tmp_path / "pki").rglob("cert.pem")}
    return folder


def server_side(identity: Path, *, asks: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity / "cert.pem", identity / "key.pem")
    context.set_alpn_protocols(["h2"])
    if asks:
        context.load_verify_locations(identity / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


# What it says of a proxy that somebody else wrote


def test_a_proxy_of_ones_own_is_reported_with_reasons(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"conform.{kind}" for kind in ("xml", "html", "json")}
    with own_proxy(tmp_path) as (address, apply, drain):
        done = run_lab(
            None,
            *("conform", address, "--control", apply, "--drain", drain, "--checks", f"{FEW},drain", "--json"),
            *("--junit", files["xml"], "--html", files["html"], "--routes-out", files["json"]),
        )

    document = json_of(done, statuses=(2,))
    verdicts = {each["feature"]: each["verdict"] for each in document["results"]}
    assert verdicts == {"unknown-key": "pass", "config-change": "pass", "method-matching": "fail", "drain": "pass"}
    assert document["counts"] == {"pass": 3, "fail": 1, "unknown": 0}
    [failure] = [each for each in document["results"] if each["verdict"] == "fail"]
    assert "match :path, too" in failure["reason"]

    suite = ET.parse(files["xml"]).getroot()  # noqa: S314 (our own file)
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "0")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["method-matching"]
    assert str(escape(failure["reason"])) in files["html"].read_text()
    table = json.loads(files["json"].read_text())
    assert {"key", "backends"} <= table["routes"][0].keys()
    assert table["address"] == address


def test_without_a_control_routes_are_printed_and_what_needs_a_change_is_unknown(tmp_path: Path) -> None:
    routes, report, first_port = tmp_path / "wanted.json", tmp_path / "conform.xml", free_row()
    options = ["--first-port", str(first_port), "--routes-out", str(routes), "--junit", str(report)]
    with (
        own_proxy(tmp_path) as (address, apply, _),
        subprocess.Popen(
            [LAB, "conform", address, "--checks", FEW, *options],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as command,
    ):
        assert command.stderr is not None
        seen = list(takewhile(lambda line: "waiting until" not in line, command.stderr))
        assert routes.exists(), seen
        subprocess.run([apply, routes], check=True)
        output, _ = command.communicate(timeout=60)

    assert any(f"x-routing-key: conform-known.v1 → 127.0.0.1:{first_port}" in line for line in seen)
    assert "1 pass, 1 fail, 1 unknown" in output
    [unknown] = ET.parse(report).getroot().iterfind("testcase/skipped")  # noqa: S314 (our own file)
    assert "--control" in unknown.get("message", "")


async def test_a_connection_may_need_certificates(identity: Path) -> None:
    proxy = Proxy()
    address = await proxy.start(server_side(identity, asks=True))
    files = ("--ca", identity / "ca.pem", "--cert", identity / "cert.pem", "--key", identity / "key.pem")
    options = ("--checks", "unknown-key,header-matching", "--first-port", free_row(), "--wait", 20, "--json")
    try:
        command = asyncio.create_task(conform(address, *files, *options, "--routes-out", identity / "routes.json"))
        while not (identity / "routes.json").exists():
            assert not command.done(), command.result()
            await asyncio.sleep(0.05)
        await proxy.apply(json.loads((identity / "routes.json").read_text()))
        results = json_of(await command)["results"]
    finally:
        await proxy.close()

    assert [each["verdict"] for each in results] == ["pass", "pass"]


# What it refuses: one line, status 1


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("localhost", "not of the form host:port"),
        ("127.0.0.1:0", "not of the form host:port"),
        ("127.0.0.1:70000", "not of the form host:port"),
        ("10.1.2.3:80", "neither this machine's loopback"),
        ("192.0.2.7:443", "neither this machine's loopback"),
        ("[2001:db8::1]:443", "neither this machine's loopback"),
        ("nobody.invalid:80", "nobody.invalid"),
    ],
)
def test_an_address_that_is_none_or_elsewhere_is_refused(address: str, words: str) -> None:
    assert words in refusal(run_lab(None, "conform", address))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--checks", "sparkle"), "check 'sparkle' is not known; there are attempts,"),
        (("--header", "X Y"), "--header: 'X Y' is not a name"),
        (("--header", "grpc-key"), "is reserved by gRPC"),
        (("--header", "x-key", "--envelope"), "a gateway reads no routing header"),
        (("--envelope", "--checks", "duplex"), "duplex is for proxies that route on a header; leave --envelope out"),
        (("--checks", "context"), "context is for proxies that route on the envelope; add --envelope"),
        (("--envelope", "--control", "nginx"), "nginx is for proxies that route on a header; leave --envelope out"),
        (("--control", "gateway"), "gateway is for proxies that route on the envelope; add --envelope"),
        (("--cert", "x.pem"), "--cert and --key go together"),
        (("--ca", __file__), "is not a PEM file"),
        (("--drain", "true"), "--drain needs --control"),
        (("--control", "'"), "--control: No closing quotation"),
        (("--control", "/nowhere/apply"), "control /nowhere/apply: No such file or directory"),
        (("--control", "false"), "control false: exit status 1"),
        (("--junit", "/nowhere/j.xml"), "--junit: no folder /nowhere"),
        (("--first-port", "65000", "--wait", "nan"), "--wait"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: tuple[str, ...], words: str) -> None:
    done = run_lab(None, "conform", f"127.0.0.1:{free_port()}", *options)

    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr.splitlines()[-1]


def test_an_address_where_nobody_listens_is_refused() -> None:
    assert "nobody listens" in refusal(run_lab(None, "conform", f"127.0.0.1:{free_port()}"))


async def test_a_server_that_says_nothing_is_refused() -> None:
    async with serving(lambda _reader, _writer: asyncio.Event().wait()) as address:
        assert "sends no HTTP/2 settings within 5 s" in refusal(await conform(address))


async def test_a_server_that_speaks_something_else_is_refused() -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP ready\r\n")

    async with serving(speak) as address:
        assert "not by HTTP/2" in refusal(await conform(address))


async def test_a_proxy_that_never_answers_a_request_is_refused() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Side(reader, writer, client=False).read(lambda _stream, _headers: None)

    async with serving(serve) as address:
        done = await conform(address, "--wait", 1, "--first-port", free_row(), "--checks", "unknown-key")

    assert done.returncode == 1
    assert "gives no answer to a request within 5 s: is it stuck?" in done.stderr.splitlines()[-1]


async def test_a_proxy_that_routes_elsewhere_is_refused_with_its_last_answer(tmp_path: Path) -> None:
    with own_proxy(tmp_path) as (address, _, _):
        done = await conform(address, "--wait", 0, "--first-port", free_row(), "--checks", "unknown-key")

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "routes x-routing-key: conform-known.v1 to none of its models" in last
    assert "UNAVAILABLE (no route for ['conform-known.v1'])" in last


async def test_tls_that_does_not_come_about_is_refused_with_its_remedy(identity: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority.create(tmp_path / "other", lifetime_s=3600).certificate.public_bytes(Encoding.PEM))
    ca, strangers = ("--ca", identity / "ca.pem"), ("--ca", other)
    plain, secured = Proxy(), Proxy()
    demanding = Proxy()
    addresses = (
        await plain.start(),
        await secured.start(server_side(identity, asks=False)),
        await demanding.start(server_side(identity, asks=True)),
    )
    try:
        assert "does not speak TLS: leave --ca" in refusal(await conform(addresses[0], *ca))
        assert "does it speak TLS (--ca)?" in refusal(await conform(addresses[1]))
        assert "its certificate is not trusted" in refusal(await conform(addresses[1], *strangers))
        assert "not trusted" in refusal(await conform(addresses[1], *ca, "--server-name", "elsewhere"))
        assert "certificate" in refusal(await conform(addresses[2], *ca))
    finally:
        for proxy in (plain, secured, demanding):
            await proxy.close()


def test_a_port_of_a_model_that_is_in_use_is_named(tmp_path: Path) -> None:
    with own_proxy(tmp_path) as (address, _, _):
        port = address.rpartition(":")[2]
        done = run_lab(None, "conform", address, "--checks", "unknown-key", "--first-port", port)

    assert f"127.0.0.1:{port}: Address already in use" in refusal(done)


# What it leaves behind


def test_ctrl_c_ends_models_and_the_command_of_the_control(tmp_path: Path) -> None:
    stuck = tmp_path / "stuck.sh"
    stuck.write_text(f"#!/bin/sh\ncp $1 {tmp_path}/table.json\nexec sleep 100\n")
    stuck.chmod(0o700)
    address = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(
        [LAB, "conform", address, "--control", stuck, "--checks", "unknown-key"], stderr=subprocess.PIPE, text=True
    ) as command:
        while not (tmp_path / "table.json").exists() or not psutil.Process(command.pid).children():
            assert command.poll() is None
        [child] = psutil.Process(command.pid).children()
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=20)

    assert (command.returncode, errors.splitlines()[-1]) == (130, "lab: interrupted")
    assert not child.is_running()
    table = json.loads((tmp_path / "table.json").read_text())
    assert not listens(int(table["routes"][0]["backends"][0]["address"].rpartition(":")[2]))
