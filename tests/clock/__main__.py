"""``python -m tests.clock``: sets the clock of a lab back by an hour, and forth again; needs gcc.

After each jump all units must run, a gateway that starts again must be trusted, both topologies must answer, and a
publish must come into force. Load during which the clock jumps must be neither valid nor invalid. The lab and its
commands share the clock, as on one machine.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lab import CHECKOUT

_LAB = (sys.executable, "-c", "from lab.cli import main; main()")
_TIMEOUT_S = 120
_UNKNOWN = 2  # exit status of load whose verdicts are unknown
_JUMPS_S = (-3600, 3600, 0)
ROUTES = CHECKOUT / "lab" / "specs" / "mini.routes.yaml"


def main() -> None:
    """Runs the drill; exits with a command's last line if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        shim, clock = Path(folder) / "realtime.so", Path(folder) / "offset"
        source = Path(__file__).with_name("realtime.c")
        subprocess.run(("gcc", "-O2", "-shared", "-fPIC", "-o", shim, source), check=True)
        clock.write_bytes(struct.pack("l", 0))
        environment = {
            **os.environ,
            "LD_PRELOAD": str(shim),
            "CLOCK_OFFSET": str(clock),
            "LAB_HOME": folder,
            "LAB_NAME": f"clock-{os.getpid()}",
        }

        def jump(to_s: int) -> None:
            with clock.open("r+b") as file:  # in place, as units have it mapped
                file.write(struct.pack("l", to_s))

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
                jump(seconds)
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
                    jump(-3600)
                    said, _ = load.communicate(timeout=_TIMEOUT_S)
                jump(0)
                if load.returncode != _UNKNOWN or "clock was stepped" not in said:
                    sys.exit(f"load during a jump, {topology}: status {load.returncode}: {said}")
                print(f"load during a jump, {topology}: unknown")  # noqa: T201
        finally:
            lab("down", check=False)


if __name__ == "__main__":
    main()
