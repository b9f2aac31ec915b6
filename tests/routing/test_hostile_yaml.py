import random
import string
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import RouteTableError
from lab.routing.document import Source, read_path, read_sources
from lab.routing.yaml_nodes import MAX_BYTES, MAX_DEPTH

SAMPLE = (Path(__file__).parent / "routes.yaml").read_text()
LINES = 10_000


def noise(seed: int, alphabet: str) -> str:
    rng = random.Random(seed)  # noqa: S311 (noise)
    return "\n".join("".join(rng.choices(alphabet, k=80)) for _ in range(LINES))


HOSTILE: dict[str, str | Callable[[], str]] = {
    "noise": partial(noise, 1, string.printable),
    "letters and brackets": partial(noise, 2, string.ascii_letters + " :-{}[],"),
    "prose": "\n".join(f"word word {number}" for number in range(LINES)),
    "unknown fields": "\n".join(f"field{number}: value" for number in range(LINES)),
    "bad use cases": "use_cases:\n" + "\n".join(f"  Case{number}: {{wrong: 1}}" for number in range(LINES)),
    "list": "- x\n" * LINES,
    "opened and never closed": "[" * 100_000,
    "deep mappings": "{a: " * 100_000,
    "deep dashes": "- " * 100_000,
    "billion laughs": "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(12)),
    "quadratic blow-up": f"a: &a [{'x,' * 1000}]\nb: [{'*a,' * 1000}]",
    "many aliases": f"a: &a x\nb: [{'*a,' * 2000}]",
    "recursion": "models: &a [*a]",
    "code": "models: !!python/object/apply:os.system [id]",
    "long number": "models: " + "9" * 100_000,
    "long key": '"' + "k" * 100_000 + '": 1',
    "unclosed quote": '"' + "x" * 1_000_000,
    "nul": "a: \0",
    "lone surrogate": "a: \udc80",
}


def hostile(name: str) -> Source:
    text = HOSTILE[name]
    return Source("r.yaml", text if isinstance(text, str) else text())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gets_one_line_at_little_cost(name: str) -> None:
    source = hostile(name)
    before = time.process_time()
    with pytest.raises(RouteTableError) as caught:
        read_sources([source])
    lines = str(caught.value).splitlines()
    assert all(line.startswith(("r.yaml:", "… and ")) and len(line) < 600 for line in lines)
    assert len(str(caught.value)) < 5_000
    assert caught.value.line >= 1
    # CPU, not wall time: generous beside the 1.5 s of the worst of these, nothing beside an unbounded expansion.
    assert time.process_time() - before < 30


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("deep mappings", "is nested more than 32 deep; write it flatter"),
        ("deep dashes", "is nested more than 32 deep; write it flatter"),
        ("billion laughs", "has more than 500,000 values (aliases count each time); leave some out"),
        ("quadratic blow-up", "has more than 500,000 values (aliases count each time); leave some out"),
        ("many aliases", "has more than 1000 aliases; write the values out"),
        ("recursion", "alias '*a' contains itself; write the value out"),
        ("code", "is not allowed; write the plain value"),
        ("long number", "is too long; quote it if it is a name"),
        ("nul", "character U+0000 is not allowed in YAML; remove it"),
    ],
)
def test_a_bomb_is_stopped_by_its_own_bound(name: str, problem: str) -> None:
    with pytest.raises(RouteTableError) as caught:
        read_sources([hostile(name)])
    assert problem in caught.value.problem


def test_depth_is_bounded_but_suffices() -> None:
    def nested(depth: int) -> str:
        return f"use_cases: {'[' * (depth - 1)}{']' * (depth - 1)}"

    with pytest.raises(RouteTableError, match="is not a mapping"):
        read_sources([Source("r.yaml", nested(MAX_DEPTH))])
    with pytest.raises(RouteTableError, match=f"is nested more than {MAX_DEPTH} deep; write it flatter"):
        read_sources([Source("r.yaml", nested(MAX_DEPTH + 1))])


def test_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(RouteTableError, match=r"r\.yaml: is larger than 16 MB"):
        read_path(path)
    half = "#" * (MAX_BYTES // 2 + 1)
    with pytest.raises(RouteTableError, match="is larger than 16 MB"):
        read_sources([Source("a.yaml", half), Source("b.yaml", half)])


def test_thousands_of_clusters_are_no_hostility() -> None:
    count = 3_000
    text = "use_cases:\n"
    text += "".join(f"  C{n}: {{callers: [x], api: ranking.v1, timeout: 1s, default: m{n}@v1}}\n" for n in range(count))
    text += "models:\n" + "".join(f"  m{n}: {{versions: {{v1: {{cluster: c{n}}}}}}}\n" for n in range(count))
    text += "clusters:\n" + "".join(f"  c{n}: {{replicas: 2}}\n" for n in range(count))
    assert len(read_sources([Source("r.yaml", text)]).versions) == count


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_any_text_is_either_a_table_or_one_line(text: str) -> None:
    try:
        read_sources([Source("r.yaml", text)])
    except RouteTableError as error:
        assert all(line.startswith(("r.yaml:", "… and ")) for line in str(error).splitlines())  # noqa: PT017 (most texts raise, some need not)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, SAMPLE.count("\n") - 1), st.integers(0, 40), st.text("{}[]:,-*&!|>'\"# \nxv1@", max_size=6))
def test_any_slip_in_a_good_file_is_either_harmless_or_one_line(line: int, column: int, slip: str) -> None:
    lines = SAMPLE.split("\n")
    lines[line] = lines[line][:column] + slip + lines[line][column + 1 :]
    try:
        read_sources([Source("r.yaml", "\n".join(lines))])
    except RouteTableError as error:
        assert all(line.startswith(("r.yaml:", "… and ")) for line in str(error).splitlines())  # noqa: PT017 (most slips raise, some need not)
        assert 1 <= error.line <= len(lines) + slip.count("\n")  # noqa: PT017
