"""``python -m tests.clock``: sets the clock of a lab back by an hour, and forth again; needs gcc.

After each jump all units must run, a gateway that starts again must be trusted, both topologies must answer, and a
publish must come into force. Load during which the clock jumps must be valid. The lab and its commands share the clock,
as on one machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lab import CHECKOUT
from tests.clock.wall_clock import set_wall_clock, wall_clock

_LAB = (sys.executable, "-c", "from lab.cli import main; main()")
_TIMEOUT_S = 120
_JUMPS_S = (-3600, 3600, 0)
ROUTES = CHECKOUT / "lab" / "specs" / "mini.routes.yaml"


def main() -> None:
    """Runs the drill; exits with a command's last line if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            **wall_clock(Path(folder)),
            "LAB_HOME": folder,
            "LAB_NAME": f"clock-{os.getpid()}",
        }

        def lab(*arguments: str, check: bool = True) -> str:
            command = (*_LAB, *arguments)
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
            if check and done.returncode:
                sys.exit(f"lab {' '.join(arguments)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
            return done.stdout

        try:
            lab("up", "--runtime", "process", "--spec", "mini")
            for seconds in _JUMPS_S:
                set_wall_clock(environment, seconds)
                lab("fault", "inject", "kill", "gateway-1")
                lab("fault", "heal")
                states = {unit["name"]: unit["state"] for unit in json.loads(lab("status", "--json"))["units"]}
                if set(states.values()) != {"running"}:
                    sys.exit(f"clock {seconds:+} s: {states}")
                for topology in ("mesh", "gateway"):
                    lab("call", "ContinueWatchingRanking", "--topology", topology, "--caller", "homepage")
                lab("routes", "publish", str(ROUTES), "--comment", f"after a jump to {seconds} s")
                print(f"clock {seconds:+} s: all {len(states)} units run and answer")  # noqa: T201
            for topology in ("mesh", "gateway"):
                command = (*_LAB, "load", "--topology", topology, "--rate", "50", "--duration", "8")
                with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as load:
                    time.sleep(5)  # the middle of the load, whenever that is: nothing waits for it
                    set_wall_clock(environment, -3600)
                    said, _ = load.communicate(timeout=_TIMEOUT_S)
                set_wall_clock(environment, 0)
                if load.returncode or "clock was stepped" in said:
                    sys.exit(f"load during a jump, {topology}: status {load.returncode}: {said}")
                print(f"load during a jump, {topology}: valid")  # noqa: T201
        finally:
            lab("down", check=False)


if __name__ == "__main__":
    main()
