"""Who may ask the console, and what its page may do."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from lab.lab import Lab
from lab.plugins.console import Console
from lab.plugins.console.board import Board
from tests.plugins.console.builders import serving


@pytest.fixture(scope="module")
def board() -> Board:
    board = Board()
    board.post("lab", {"name": "talk"})
    return board


@pytest.fixture(scope="module")
def console(board: Board) -> Iterator[Console]:
    with serving(board) as console:
        yield console


def ask(
    console: Console, path: str, *, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    """The response, with what of its body is there at once."""
    where = urlsplit(console.address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    read = response.read1(1 << 20)
    connection.close()
    return response, read


def enter(console: Console, token: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """The response to the form that sends a token."""
    form = {"Content-Type": "application/x-www-form-urlencoded", "Origin": "null", **headers}
    return ask(console, "/enter", method="POST", body=urlencode({"token": token}), **form)


def cookie_of(console: Console) -> str:
    response, _ = enter(console, console.token)
    return str(response.headers["Set-Cookie"])


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with serving(Board(), Lab("nobody-has-this", home=tmp_path_factory.mktemp("control"))) as console:
        yield console


def act(console: Console, document: object, **headers: str) -> tuple[int, bytes]:
    """Status and body of the answer to what the page asks when a button is pressed, but for these headers."""
    where = urlsplit(console.address)
    own = {"Cookie": cookie_of(console).partition(";")[0], "Origin": f"http://{where.netloc}", "X-Lab-Console": "1"}
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    sent = {name: value for name, value in {**own, **headers}.items() if value}
    connection.request("POST", "/act", json.dumps(document), sent)
    response = connection.getresponse()
    read = response.read()
    connection.close()
    return response.status, read


STOP = {"stop": "1"}


def test_the_page_of_a_console_with_control_may_act(control: Console) -> None:
    assert act(control, STOP) == (200, b"{}")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"X-Lab-Console": ""},
        {"Cookie": ""},
        {"Cookie": "", "Origin": "http://evil.example"},
    ],
)
def test_no_other_page_may_act(headers: dict[str, str], control: Console) -> None:
    assert act(control, STOP, **{name.replace("_", "-"): value for name, value in headers.items()})[0] == 403


@pytest.mark.parametrize("document", [[], {}, {"action": "inject"}, {"action": "inject", "values": []}, {"action": 1}])
def test_what_is_no_action_is_refused(document: object, control: Console) -> None:
    status, said = act(control, document)

    assert (status, b"no action of the page" in said) == (400, True)


def test_an_unknown_action_is_refused_by_name(control: Console) -> None:
    status, said = act(control, {"action": "down", "values": {}})

    assert status == 400
    assert b"'down' is not an action; there are inject, heal," in said


def test_a_console_without_control_cannot_act(console: Console) -> None:
    assert act(console, STOP)[0] in (404, 405)


@pytest.mark.parametrize("path", ["/", "/stream", "/?token=", "/enter", "/stream?token=%FF", "/nothing"])
def test_nobody_without_the_token_gets_anything(path: str, console: Console) -> None:
    response, read = ask(console, path)

    assert response.status == 403
    assert b"The token that `lab console` printed" in read
    assert console.token.encode() not in read


@pytest.mark.parametrize("token", ["", "wrong", "\xff"])
def test_a_wrong_token_opens_nothing(token: str, console: Console) -> None:
    response, _ = enter(console, token)

    assert (response.status, response.headers["Set-Cookie"]) == (403, None)


def test_the_token_is_in_no_address_and_only_its_owner_can_read_the_file_that_has_it(
    console: Console, tmp_path: Path
) -> None:
    door = tmp_path / "console.html"
    console.write_door(door)

    assert console.token not in console.address
    assert console.token in door.read_text()
    assert door.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1.evil.example:1", ""])
def test_other_hosts_names_are_refused_also_with_the_token(host: str, console: Console) -> None:
    response, _ = enter(console, console.token, Host=host)

    assert response.status == 421


def test_the_token_becomes_a_cookie_that_no_script_and_no_other_site_gets(console: Console) -> None:
    cookie = cookie_of(console)

    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    response, _ = ask(console, "/", Cookie=cookie.partition(";")[0])
    assert response.status == 200
    assert urlsplit(console.address).netloc.rpartition(":")[2] in cookie.partition("=")[0], "each port has its own"


def test_an_old_cookie_does_not_keep_a_new_address_from_working(console: Console) -> None:
    name = cookie_of(console).partition("=")[0]

    response, _ = enter(console, console.token, Cookie=f"{name}=old")

    assert response.status == 200


def test_the_page_may_run_its_own_script_alone(console: Console) -> None:
    response, page = enter(console, console.token)
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))

    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert "http" not in str(policy)
    assert page.startswith(b"<!DOCTYPE html>")


def test_the_stream_begins_with_everything_and_goes_on_with_changes(board: Board, console: Console) -> None:
    cookie = cookie_of(console).partition(";")[0]
    where = urlsplit(console.address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.request("GET", "/stream", headers={"Cookie": cookie})
    response = connection.getresponse()

    assert said(response) == {"clear": ["lab"], "set": {"lab": {"name": "talk", "control": False}}}
    board.post("lab", {"name": "talk", "trouble": "down"})
    assert said(response) == {"clear": [], "set": {"lab": {"trouble": "down"}}}
    connection.close()


def said(response: http.client.HTTPResponse) -> object:
    line = response.readline()
    assert response.readline() == b"\n"
    return json.loads(line.removeprefix(b"data: "))


def test_deeply_nested_json_is_refused_in_one_line(control: Console) -> None:
    where = urlsplit(control.address)
    own = {"Cookie": cookie_of(control).partition(";")[0], "Origin": f"http://{where.netloc}", "X-Lab-Console": "1"}

    response, said = ask(control, "/act", method="POST", body="[" * 4_000 + "]" * 4_000, **own)

    assert response.status == 400
    assert b"no action of the page" in said
