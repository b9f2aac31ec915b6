"""What a locustfile decides, by its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.plugins.locust.decided_fields import EVERYTHING, decided_by
from lab.plugins.locust.plan import EXAMPLE, plan_of

HEAD = "from locust import task\nfrom lab.plugins.locust import LabUser\nclass Visitor(LabUser):\n"


def asking(call: str) -> str:
    return f"{HEAD} @task\n def visit(self):\n  self.{call}\n"


def test_the_default_locustfile_decides_the_device() -> None:
    assert decided_by(EXAMPLE.read_text()) == {"device"}


@pytest.mark.parametrize(
    ("call", "fields"),
    [
        ("ask()", set()),
        ("ask(context={})", set()),
        ("ask(context={'device': 'tv', 'country': random_country()})", {"device", "country"}),
        ("ask(context={'user_id': 'u1'})", {"user_id"}),
        ("ask(payload=8)", {"payload_bytes"}),
        ("user_id = 'u1'; self.ask()", {"user_id"}),
        ("ask('Rows')", EVERYTHING),
        ("ask(None, {'device': 'tv'})", {"use_case", "device"}),
        ("ask(use_case='Rows')", EVERYTHING),
        ("ask(context=chosen)", EVERYTHING),
        ("ask(context={**chosen})", EVERYTHING),
        ("ask(context={name: 'tv'})", EVERYTHING),
        ("ask(*chosen)", EVERYTHING),
        ("ask(**chosen)", EVERYTHING),
    ],
)
def test_what_calls_name_is_decided_and_nothing_else(call: str, fields: set[str]) -> None:
    assert decided_by(asking(call)) == fields


def test_what_python_and_locust_bring_along_calls_nothing() -> None:
    imports = "from __future__ import annotations\nfrom collections.abc import Mapping\nimport locust, random"
    assert decided_by(f"{imports}\n{asking('ask()')}") == set()


def test_a_field_that_no_request_has_may_decide_everything(tmp_path: Path) -> None:
    locustfile = tmp_path / "mine.py"
    locustfile.write_text(asking("ask(context={'shoes': 'red'})"))
    assert plan_of(locustfile=locustfile).decides == tuple(EVERYTHING)


@pytest.mark.parametrize(
    "text",
    [
        f"import mine\n{asking('ask()')}",
        f"from mine import Visits\n{asking('ask()')}",
        f"from . import visits\n{asking('ask()')}",
        asking("go = self.ask"),
        asking("go = getattr(self, 'ask')"),
        f"{HEAD} def ask(self):\n  super().ask()\n",
        "no Python",
        "\0",
        "(" * 5_000,
        "-" * 100_000 + "1",
    ],
)
def test_a_text_that_does_not_say_it_may_decide_everything(text: str) -> None:
    assert decided_by(text) == EVERYTHING
