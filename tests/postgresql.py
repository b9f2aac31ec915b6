"""A real PostgreSQL server of the tests' own, from the distribution's package (``make postgres``)."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

_USER = "postgres"
# Whoever starts it, the kernel asks it to end when that process has gone.
_AS_ITS_USER = [
    *("setpriv", "--pdeathsig=INT"),
    *((f"--reuid={_USER}", f"--regid={_USER}", "--init-groups") if os.geteuid() == 0 else ()),
]
# Nothing of it is to survive the machine.
_SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "50", "shared_buffers": "16MB"}
_WITHIN_S = 30
_PREFIX = "lab-postgresql-"


def programs() -> Path | None:
    """Where ``initdb`` and ``postgres`` are: Debian keeps them by version, and off the path."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    return max((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)


@dataclass(slots=True)
class Server:
    """A server, which only whoever may enter its folder reaches, by a socket.

    Attributes:
        folder: of its data and its socket.
        password: of its user, who may do all.
    """

    folder: Path
    password: str
    _process: subprocess.Popen[bytes] | None = None

    def address(self, database: str) -> str:
        """As ``--registry`` takes it."""
        return f"postgresql://{_USER}:{self.password}@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Makes one, and returns its address."""
        name = f"registry_{secrets.token_hex(4)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as session:
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.address(name)

    def start(self) -> None:
        """Returns once it answers."""
        found = programs()
        assert found is not None
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        argv = [*_AS_ITS_USER, found / "postgres", "-D", self.folder / "data", "-k", self.folder, *settings]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        pid_file = self.folder / "data" / "postmaster.pid"
        # As pg_ctl waits: it writes there when it is ready. Its socket is there earlier.
        wait = ["sh", "-c", f"until grep -qs '^ready' {pid_file}; do sleep 0.05; done"]
        subprocess.run(wait, check=True, timeout=_WITHIN_S)

    def stop(self) -> None:
        """Ends it, and every session with it; what is committed is kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_WITHIN_S)
            self._process = None


@contextmanager
def running_server() -> Iterator[Server]:
    """A server in its own folder, which is gone afterwards."""
    found = programs()
    assert found is not None
    _remove_what_the_dead_have_left()
    # Not among the tests' folders: its user may not go there.
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    server = Server(folder, secrets.token_hex(8))
    password = folder / "password"
    password.write_text(server.password)
    if os.geteuid() == 0:
        shutil.chown(folder, _USER, _USER)
        shutil.chown(password, _USER, _USER)
    argv = [*_AS_ITS_USER, found / "initdb", "-D", folder / "data", "-U", _USER, f"--pwfile={password}", "--no-sync"]
    argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
    try:
        made = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
        assert made.returncode == 0, made.stderr
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _remove_what_the_dead_have_left() -> None:
    """Servers end with whoever started them, but a process that is killed cannot remove its folder."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
