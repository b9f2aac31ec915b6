"""Addresses are registered with their lab, and forgotten with it."""

import shutil
from pathlib import Path

from lab.transport.channels import Entry, look_up, register
from lab.transport.security import MTLS, Security


def test_an_address_of_a_removed_lab_is_forgotten(tmp_path: Path) -> None:
    address, folder = "127.0.0.1:1", tmp_path / "pki"
    folder.mkdir()
    known = Entry(Security(MTLS, str(folder)), "gateway")
    register({address: known})
    assert look_up(address) == known

    shutil.rmtree(folder)

    assert look_up(address) is None
