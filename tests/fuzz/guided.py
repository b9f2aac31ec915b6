"""``python -m tests.fuzz.guided`` gives every target as many wrong inputs as asked for; a find is kept in the corpus.

Most are mutants of whole inputs. A fifth, where atheris is installed, is guided by what an input reaches of the code.
"""

import argparse
import hashlib
import importlib.util
import multiprocessing
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.fuzz.mutants import mutant
from tests.fuzz.targets import TARGETS

INPUTS = 1_000_000
CORPUS = Path(__file__).parent / "corpus"
_CHUNK = 5_000
_ONE_IS_GUIDED_OF = 5
_GUIDED = """
import sys
import atheris
with atheris.instrument_imports(include=["lab", "models", "services"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS
atheris.Setup(sys.argv[:1] + sys.argv[2:], TARGETS[sys.argv[1]].take)
atheris.Fuzz()
"""


def shares(inputs: int) -> dict[str, int]:
    """Target → how many of them it gets."""
    whole = sum(target.cases for target in TARGETS.values())
    return {name: -(-inputs * target.cases // whole) for name, target in TARGETS.items()}


def try_mutants(work: tuple[str, int, int]) -> int:
    """Gives a target mutants; returns how many it did not bear, which the corpus then has."""
    name, seed, count = work
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what is logged of them is of no interest
    target, random, found = TARGETS[name], Random(seed), 0  # noqa: S311 (nothing secret)
    for _ in range(count):
        data = mutant(random, target.seeds)
        try:
            target.take(data)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a find)
            _keep(name, data, type(error).__name__)
            found += 1
    return found


def _keep(name: str, data: bytes, why: str) -> None:
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{why.lower()}-{hashlib.blake2b(data, digest_size=6).hexdigest()}").write_bytes(data)


def guide(name: str, count: int) -> int:
    """Has atheris look for inputs that reach what none has reached; returns how many it found that are not borne."""
    keep = CORPUS / name
    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for number, seed in enumerate(TARGETS[name].seeds):
            (Path(scratch) / f"seed-{number}").write_bytes(seed)
        argv = [sys.executable, "-c", _GUIDED, name, scratch, f"-runs={count}", f"-artifact_prefix={keep}/"]
        argv += ["-max_len=16384", "-timeout=20", "-rss_limit_mb=4096", "-verbosity=0"]
        ended = subprocess.run(argv, check=False, capture_output=True)
    if not any(keep.iterdir()):
        keep.rmdir()
    return int(ended.returncode != 0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="wrong inputs for all targets together, at least")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="of the mutants")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    can_guide = importlib.util.find_spec("atheris") is not None
    guided = shares(chosen.inputs // _ONE_IS_GUIDED_OF) if can_guide else {}
    parts = shares(chosen.inputs - sum(guided.values()))
    work = [
        (name, chosen.seed + begin, min(_CHUNK, count - begin))
        for name, count in parts.items()
        for begin in range(0, count, _CHUNK)
    ]
    with multiprocessing.get_context("spawn").Pool(chosen.workers) as pool:
        found = sum(pool.imap_unordered(try_mutants, work))
        found += sum(pool.starmap(guide, guided.items(), chunksize=1))
    tried = sum(parts.values()) + sum(guided.values())
    how = f"{sum(guided.values()):,} of them guided by coverage" if guided else "none guided: atheris is not there"
    print(  # noqa: T201 (a command)
        f"seed {chosen.seed}: {tried:,} wrong inputs for {len(parts)} targets, {how}: {found} not borne; "
        f"{time.monotonic() - began:.0f} s" + (f"; see {CORPUS}" if found else "")
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
