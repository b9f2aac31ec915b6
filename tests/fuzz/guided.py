"""``python -m tests.fuzz.guided`` gives every target as many wrong inputs as asked for; a find is kept in the corpus.

Most are mutants of whole inputs. A fifth, where atheris is installed, is guided by what an input reaches of the code.
"""

import argparse
import hashlib
import importlib.util
import multiprocessing
import os
import resource
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.fuzz.mutants import mutant
from tests.fuzz.targets import TARGETS
from tests.tools import run_tool

INPUTS = 1_000_000
CORPUS = Path(__file__).parent / "corpus"
_CHUNK = 500
HANG_S = 2.0
_WAITING_S = 30.0
_MEMORY_MB = 8_192  # mappings of gRPC's threads and of Arrow count, too
_ONE_IS_GUIDED_OF = 5
_GUIDED = """
import sys
import atheris
with atheris.instrument_imports(include=["lab", "models", "services"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS
atheris.Setup(sys.argv[:1] + sys.argv[2:], TARGETS[sys.argv[1]].take)
atheris.Fuzz()
"""


def shares(inputs: int, *, guided: bool = False) -> dict[str, int]:
    """Target → how many of them it gets; only those that coverage may guide, if asked for."""
    targets = {name: target for name, target in TARGETS.items() if target.guided or not guided}
    whole = sum(target.cases for target in targets.values())
    return {name: -(-inputs * target.cases // whole) for name, target in targets.items()}


def begin(memory: int) -> None:
    """Prepares a process: nothing is logged, memory is limited, and an input that takes too long raises."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.signal(signal.SIGPROF, _took_too_long)
    signal.signal(signal.SIGALRM, _took_too_long)


def _took_too_long(*_: object) -> None:
    raise TimeoutError(f"took {HANG_S:g} s of computing, or {_WAITING_S:g} s of waiting")


@contextmanager
def in_time() -> Iterator[None]:
    """Raises TimeoutError in a body that hangs. A busy machine makes waiting longer, but not computing."""
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    signal.setitimer(signal.ITIMER_REAL, _WAITING_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def try_mutants(work: tuple[str, int, int]) -> tuple[int, int]:
    """Gives a target mutants; returns how many, and how many it did not bear, which the corpus then has."""
    name, seed, count = work
    target, random, found = TARGETS[name], Random(seed), 0  # noqa: S311 (nothing secret)
    target.take(target.seeds[0])  # what is made once is not part of an input's time
    for _ in range(count):
        data = mutant(random, target.seeds)
        try:
            with in_time():
                target.take(data)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a find)
            _keep(name, data, type(error).__name__)
            found += 1
    return count, found


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
    parser.add_argument("--memory-mb", type=int, default=_MEMORY_MB, help="address space of a process")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    can_guide = importlib.util.find_spec("atheris") is not None
    guided = shares(chosen.inputs // _ONE_IS_GUIDED_OF, guided=True) if can_guide else {}
    parts = shares(chosen.inputs - sum(guided.values()))
    work = [
        (name, chosen.seed + begin, min(_CHUNK, count - begin))
        for name, count in parts.items()
        for begin in range(0, count, _CHUNK)
    ]
    print(f"seed {chosen.seed}: make fuzz-inputs N={chosen.inputs} ARGS='--seed {chosen.seed}' repeats it")  # noqa: T201
    tried = found = 0
    Random(chosen.seed).shuffle(work)  # noqa: S311 (nothing secret; the slow targets not all at the end)
    with multiprocessing.get_context("spawn").Pool(chosen.workers, begin, (chosen.memory_mb << 20,)) as pool:
        for count, finds in pool.imap_unordered(try_mutants, work):
            tried, found = tried + count, found + finds
            print(f"{tried:,} of {chosen.inputs:,} inputs, {found} not borne", flush=True)  # noqa: T201 (progress)
    with multiprocessing.get_context("spawn").Pool(chosen.workers) as pool:
        found += sum(pool.starmap(guide, guided.items(), chunksize=1))
    tried += sum(guided.values())
    how = f"{sum(guided.values()):,} of them guided by coverage" if guided else "none guided: atheris is not there"
    print(  # noqa: T201 (a command)
        f"seed {chosen.seed}: {tried:,} wrong inputs for {len(parts)} targets, {how}: {found} not borne; "
        f"{time.monotonic() - began:.0f} s" + (f"; see {CORPUS}" if found else "")
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(run_tool(main))
