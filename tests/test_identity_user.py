"""The person whom audit logs and revisions name."""

import os
import pwd

import pytest

from lab.identity.user import PAGE, author


def test_the_name_is_the_kernels_and_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("USER", "LOGNAME", "SUDO_USER"):
        monkeypatch.setenv(variable, "somebody")
    monkeypatch.delenv(PAGE, raising=False)
    name = pwd.getpwuid(os.getuid()).pw_name

    assert author() == name
    monkeypatch.setenv(PAGE, "1")
    assert author() == f"{name} by the console's page"
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    assert author() == f"uid {os.getuid()} by the console's page"
