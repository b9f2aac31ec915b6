"""Third-party proxies, each behind its renderer, in one lab: they route as the lab's own, and change under load."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from threading import Event, Thread

import grpc
import psutil
import pytest
from cryptography import x509

from lab import CHECKOUT
from lab.checkers import Outcome
from lab.identity.folder import CURRENT
from lab.lab import Lab
from lab.roles import ROLES
from lab.routing.keys import HEADER
from lab.runtime.identities import Identities
from lab.runtime.process.family import family
from lab.topologies import TOPOLOGIES
from lab.transport import Security, open_blocking_channel
from lab.waiting import eventually
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from scenarios.framework.steps import (
    assert_all_answered_rightly,
    assert_no_wrong_answer,
    load_on,
    moved_table,
    records_of,
    seen_by,
    under_loads,
    verdict_of,
)
from tests.lab_command import json_of, run_lab
from tests.labs import address_of, known, lab_up, states, status_of
from tests.parts import Relay
from tests.proxies import GATEWAYS, need, that_run_here

CHANGES, ROTATIONS, RATE_RPS = 50, 4, 50.0
HANDSHAKES = 500
WITHIN = timedelta(seconds=20)
MALFORMED = ("INVALID_ARGUMENT", "send exactly one")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab's callers and models, with every proxy that this machine has."""
    if not that_run_here(GATEWAYS):
        need(next(iter(GATEWAYS)))
    with lab_up(tmp_path_factory.mktemp("proxies"), topologies=that_run_here(GATEWAYS), security="mtls") as lab:
        yield lab


@pytest.fixture
def topology(request: pytest.FixtureRequest) -> str:
    """A topology whose proxy is here."""
    need(request.param)
    return str(request.param)


each_of_them = pytest.mark.parametrize("topology", GATEWAYS, indirect=True)


def own_processes(lab: Lab, role: str) -> set[int]:
    """Ids of the renderer and of all that it has started."""
    [unit] = [each for each in lab.status().units if each.role == role]
    return set(family(unit.pid)) if unit.pid else set()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_fifty_changes_under_load_fail_and_misroute_nothing(lab: Lab, tmp_path: Path) -> None:
    # A request that a change loses never ends. One that a busy machine delays must not look the same.
    patient = tmp_path / "patient.yaml"
    patient.write_text((CHECKOUT / "routes.yaml").read_text().replace("timeout: 2s", "timeout: 8s"))
    moved = moved_table(patient, tmp_path)
    contexts = {"device": ("phone", "tv"), "country": ("DE", "US")}
    lab.routes.publish(patient)
    loads = [load_on(each, RATE_RPS, duration_s=100, contexts=contexts) for each in that_run_here(GATEWAYS)]

    with under_loads(lab, *loads) as runs:
        for number in range(CHANGES):
            lab.routes.publish(patient if number % 2 else moved)
    lab.routes.publish(CHECKOUT / "routes.yaml")

    for run in runs:
        result = run.result()
        assert_all_answered_rightly(result)
        assert seen_by(result, "cluster") >= {"ml-cluster-1", "ml-cluster-5"}, "no request saw the move"
        assert verdict_of(result, "routing") == Outcome.VALID


def test_certificates_rotate_under_load_and_every_answer_is_right(lab: Lab) -> None:
    """Callers open all connections again, so requests may miss their deadline, see docs/proxies.md."""
    loads = [load_on(each, RATE_RPS, duration_s=100, contexts={}) for each in that_run_here(GATEWAYS)]
    address_and_serials: dict[str, set[int]] = {each: set() for each in that_run_here(GATEWAYS)}

    with under_loads(lab, *loads) as runs:
        for _ in range(ROTATIONS):
            lab.certificates.rotate()
            for topology, serials in address_and_serials.items():
                serials.add(another_serial(address_of(lab, GATEWAYS[topology]), serials))

        for topology in address_and_serials:
            assert status_of(lab, topology) == "OK"

    for run in runs:
        result = run.result()
        assert_no_wrong_answer(result)
        others = [
            f"{each.status}: {each.message}"
            for each in records_of(result)
            if each.status not in {"OK", "DEADLINE_EXCEEDED"}
        ]
        assert others == [], result.folder


@pytest.mark.parametrize("topology", ["gateway-nginx"], indirect=True)
def test_changes_and_certificates_need_no_new_worker(lab: Lab, topology: str, tmp_path: Path) -> None:
    before = own_processes(lab, GATEWAYS[topology])
    address = address_of(lab, GATEWAYS[topology])
    serial = serial_at(address)

    lab.routes.publish(moved_table(CHECKOUT / "routes.yaml", tmp_path))
    lab.certificates.rotate()
    another_serial(address, {serial})
    lab.routes.publish(CHECKOUT / "routes.yaml")

    assert own_processes(lab, GATEWAYS[topology]) == before
    assert status_of(lab, topology) == "OK"


@pytest.mark.parametrize("topology", ["gateway-nginx"], indirect=True)
def test_a_handshake_reads_a_certificate_and_its_own_key(lab: Lab, topology: str) -> None:
    folder = Identities(lab.folder).of(GATEWAYS[topology])
    lab.certificates.rotate()
    both = [each.name for each in folder.iterdir() if each.is_dir() and not each.is_symlink()][:2]
    address, seen, done = address_of(lab, GATEWAYS[topology]), set(), Event()

    def rotate_without_end() -> None:
        for serial in cycle(both):
            if done.is_set():
                return
            (folder / "next").symlink_to(serial)
            (folder / "next").replace(folder / CURRENT)

    rotating = Thread(target=rotate_without_end)
    rotating.start()
    try:
        for _ in range(HANDSHAKES):
            seen.add(f"{serial_at(address):040x}")
    finally:
        done.set()
        rotating.join()

    assert seen == set(both)


@pytest.mark.parametrize("topology", ["gateway-caddy"], indirect=True)
def test_a_change_keeps_the_listening_socket(lab: Lab, topology: str, tmp_path: Path) -> None:
    address = address_of(lab, GATEWAYS[topology])
    before = listening_sockets(address)

    lab.routes.publish(moved_table(CHECKOUT / "routes.yaml", tmp_path))
    lab.routes.publish(CHECKOUT / "routes.yaml")

    assert len(before) == 1
    assert listening_sockets(address) == before


@each_of_them
async def test_a_connection_that_a_change_overtakes_follows_it(lab: Lab, topology: str, tmp_path: Path) -> None:
    """It is open when the change comes; its handshake comes afterwards."""
    lab.routes.publish(CHECKOUT / "routes.yaml")
    host, _, port = address_of(lab, GATEWAYS[topology]).rpartition(":")
    early = socket.create_connection((host, int(port)))
    assert status_of(lab, topology) == "OK"  # so the proxy has accepted the one before

    lab.routes.publish(moved_table(CHECKOUT / "routes.yaml", tmp_path))

    async with Relay(early).up() as relay:
        answer = await asyncio.to_thread(ask_model, lab, topology, relay.address)
    assert answer.answered_by.cluster == "ml-cluster-5"


def ask_model(lab: Lab, topology: str, address: str) -> ranking_pb2.RankResponse:
    """The answer of ``cw-ranker@v1`` to the caller homepage, by a connection to this address."""
    role = GATEWAYS[topology]
    with open_blocking_channel(address, security_of(lab, "homepage"), peer=f"{role}/{role}") as channel:
        rank = ranking_pb2_grpc.RankingStub(channel).Rank
        return rank(ranking_pb2.RankRequest(), metadata=((HEADER, "cw-ranker.v1"),), timeout=10)


def listening_sockets(address: str) -> set[str]:
    """The inodes of the sockets that listen on an IPv4 address."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(port) and row[3] == "0A"}


def another_serial(address: str, known: set[int]) -> int:
    """The serial number of a server's next certificate, as soon as it presents it."""
    what = f"{address} presents another certificate"
    return eventually(what, lambda: serial_at(address), within=WITHIN, until=lambda serial: serial not in known)


def serial_at(address: str) -> int:
    """The serial number of the certificate that a server presents."""
    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=5)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


@each_of_them
def test_a_run_is_valid(lab: Lab, topology: str) -> None:
    options = ("--topology", topology, "--caller", "homepage", "--rate", "50", "--duration", "3", "--json")

    run = json_of(run_lab(lab, "load", *options), statuses=(0, 2))

    assert (run["offered"] > 0, run["failed"], run["misrouted"], run["torn"]) == (True, 0, 0, 0)
    checked = json_of(run_lab(lab, "check", run["run_dir"], "--claims", "correctness,availability", "--json"))
    assert checked["verdict"] == "valid"


@each_of_them
def test_a_publish_waits_for_the_proxy(lab: Lab, topology: str) -> None:
    revision = lab.routes.publish(CHECKOUT / "routes.yaml")

    assert {each.node: each.acked_revision for each in known(lab).nodes}[GATEWAYS[topology]] == revision


@each_of_them
@pytest.mark.parametrize(
    ("keys", "refusal"),
    [
        (("nobody.v7",), ("UNAVAILABLE", "nobody.v7")),
        (("CW-RANKER.V1",), MALFORMED),
        ((), MALFORMED),
        (("*",), MALFORMED),
        (("cw-ranker.v1", "nobody.v7"), MALFORMED),
    ],
    ids=["unknown", "upper case", "none", "wildcard", "two"],
)
def test_a_key_that_leads_nowhere_is_refused(
    lab: Lab, topology: str, keys: tuple[str, ...], refusal: tuple[str, str]
) -> None:
    # Traefik has one answer for all that no router takes, and takes a header with any value that one does.
    if topology == "gateway-traefik":
        by_model = ("INVALID_ARGUMENT", "nobody.v7")
        refusal = by_model if len(keys) > 1 else ("UNAVAILABLE", "Received http2 header with status: 503")

    assert ask_raw(lab, topology, "homepage", *keys) == refusal


@each_of_them
def test_a_unit_that_is_no_caller_is_refused_where_the_proxy_reads_identities(lab: Lab, topology: str) -> None:
    refused = ask_raw(lab, topology, "homepage-resolver", "nobody.v7") != ask_raw(
        lab, topology, "homepage", "nobody.v7"
    )

    assert refused == (topology != "gateway-traefik")


def ask_raw(lab: Lab, topology: str, unit: str, *keys: str) -> tuple[str, str]:
    """Status of a request with these keys, and the part of its message that matters."""
    role = GATEWAYS[topology]
    headers = tuple((HEADER, key) for key in keys)
    with open_blocking_channel(address_of(lab, role), security_of(lab, unit), peer=f"{role}/{role}") as channel:
        rank = ranking_pb2_grpc.RankingStub(channel).Rank
        with pytest.raises(grpc.RpcError) as refused:
            rank(ranking_pb2.RankRequest(), metadata=headers, timeout=5)
    code, details = refused.value.code(), refused.value.details() or ""
    return code.name, next((each for each in ("nobody.v7", "send exactly one") if each in details), details)


def security_of(lab: Lab, unit: str) -> Security:
    """A unit's certificate."""
    return Security("mtls", str(lab.folder / "pki" / "units" / unit))


@each_of_them
def test_nothing_of_a_killed_proxy_is_left_and_it_comes_back(lab: Lab, topology: str) -> None:
    role = GATEWAYS[topology]
    before = own_processes(lab, role)
    assert len(before) >= 2

    folders = {Path(psutil.Process(each).cwd()) for each in before} - {CHECKOUT}
    assert all(each.exists() for each in folders)

    fault = lab.faults.inject("kill", role)
    try:
        eventually("all have ended", lambda: [pid for pid in before if is_alive(pid)], within=WITHIN, until=[].__eq__)
        eventually(
            "its folder is gone", lambda: [each for each in folders if each.exists()], within=WITHIN, until=[].__eq__
        )
        assert status_of(lab, topology) == "UNAVAILABLE"
    finally:
        fault.heal()

    assert states(lab)[role] == "running"
    eventually("it answers again", lambda: status_of(lab, topology), within=WITHIN, until="OK".__eq__)


@each_of_them
def test_a_unit_whose_proxy_has_ended_ends(lab: Lab, topology: str) -> None:
    role = GATEWAYS[topology]
    [renderer, *others] = family(next(each.pid or 0 for each in lab.status().units if each.role == role))
    programs = [each for each in map(psutil.Process, others) if role in each.name()]

    for each in programs:
        each.kill()

    eventually("it has ended", lambda: states(lab)[role], within=WITHIN, until="exited".__eq__)
    eventually(
        "nothing of it is left", lambda: any(map(is_alive, [renderer, *others])), within=WITHIN, until=False.__eq__
    )
    lab.up(topologies=that_run_here(GATEWAYS), security="mtls", runtime="process")
    eventually("it answers again", lambda: status_of(lab, topology), within=WITHIN, until="OK".__eq__)


@each_of_them
def test_a_program_that_is_missing_is_named_with_its_remedy(topology: str) -> None:
    role = GATEWAYS[topology]
    options = {"proxy": role, "name": role, "role": role, "listen": "127.0.0.1:1", "control-plane": "127.0.0.1:1"}
    hidden = "import services.renderer.child as child; child.path_of = lambda _: None"
    run = f"{hidden}; import runpy; runpy.run_module('services.renderer', run_name='__main__')"

    ended = subprocess.run(
        [sys.executable, "-c", run, *(text for name, value in options.items() for text in (f"--{name}", value))],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        timeout=60,
    )

    assert ended.returncode == 1
    [line] = ended.stderr.strip().splitlines()
    assert re.match(rf"{role} is not installed: (`make proxies`|pip install )", line)


def test_no_proxy_is_in_the_default_lab() -> None:
    assert [each for each in GATEWAYS if TOPOLOGIES[each].in_default_lab] == []
    assert {ROLES[role].calls_models for role in GATEWAYS.values()} == {True}
