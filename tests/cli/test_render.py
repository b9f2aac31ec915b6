"""``lab render``: files, what a target cannot express, and bad input."""

import stat
from pathlib import Path

import pytest
import yaml

from lab import CHECKOUT
from tests.lab_command import json_of, refusal, run_lab

ROUTES = CHECKOUT / "tests" / "plugins" / "render" / "everything.yaml"
ONLY_KEYS = """
use_cases: {UpNext: {callers: [playback], api: ranking.v1, default: up-next@v1}}
models: {up-next: {versions: {v1: {cluster: c}}}}
clusters: {c: {replicas: 1}}
"""


def test_files_go_to_a_folder_and_what_is_not_expressed_to_standard_error(tmp_path: Path) -> None:
    done = run_lab(None, "render", "gateway-api", "--routes", ROUTES, "--out", tmp_path / "out")

    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "backend-tls.yaml",
        "gateway.yaml",
        "routes.yaml",
    ]
    assert (
        f"{ROUTES}:17: use_cases.ContinueWatchingRanking.rules[2] (ab-12345): "
        "the proxy draws for each request, not by user_id; "
        "the shares hold, but the same user_id may get another version with each request"
    ) in done.stderr


def test_a_second_rendering_replaces_files_and_leaves_others(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "routes.yaml").write_text("old")

    run_lab(None, "render", "gateway-api", "--routes", ROUTES, "--out", tmp_path)

    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert "GRPCRoute" in (tmp_path / "routes.yaml").read_text()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_without_a_folder_one_stream_of_documents_is_printed() -> None:
    done = run_lab(None, "render", "gateway-api", "--routes", ROUTES)

    assert {each["kind"] for each in yaml.safe_load_all(done.stdout)} == {"Gateway", "GRPCRoute", "BackendTLSPolicy"}


def test_json_has_files_and_what_is_not_expressed() -> None:
    found = json_of(run_lab(None, "render", "gateway-api", "--routes", ROUTES, "--json"))

    assert found["target"] == "gateway-api"
    assert set(found["files"]) == {"gateway.yaml", "routes.yaml", "backend-tls.yaml"}
    kids = next(each for each in found["unexpressed"] if each["rule"] == "kids")
    assert kids == {
        "file": str(ROUTES),
        "line": 13,
        "field": "use_cases.ContinueWatchingRanking.rules[0].config",
        "rule": "kids",
        "reason": "parameters travel in the body, which a proxy does not write",
        "instead": "a request that no resolver has decided must have them in its body",
    }
    lines = [each["line"] for each in found["unexpressed"]]
    assert lines == sorted(lines)


def test_files_with_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    out = tmp_path / "out"
    keys = out / "base" / "secrets.yaml"
    keys.parent.mkdir(parents=True)
    keys.touch(mode=0o644)

    done = run_lab(None, "render", "kubernetes", "--out", out, "--image", "registry.example/lab@sha256:" + "1" * 64)

    assert (done.returncode, "by a tag" in done.stderr) == (0, False)
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()} == {0o600}
    assert "PRIVATE KEY" in keys.read_text()


def test_an_image_by_tag_is_remarked(tmp_path: Path) -> None:
    done = run_lab(None, "render", "kubernetes", "--out", tmp_path / "out", "--image", "registry.example/lab:1")

    assert "the image is named by a tag" in done.stderr


def test_strict_fails_on_the_first_part_that_is_not_expressed_and_writes_nothing(tmp_path: Path) -> None:
    done = run_lab(None, "render", "gateway-api", "--routes", ROUTES, "--out", tmp_path / "out", "--strict", "--json")

    assert refusal(done).startswith(f"lab: {ROUTES}:7: use_cases.ContinueWatchingRanking.timeout: gateway-api cannot ")
    assert list(tmp_path.iterdir()) == []


def test_one_target_of_a_folder_of_routes_names_the_file_of_each_part(tmp_path: Path) -> None:
    folder = tmp_path / "routes"
    folder.mkdir()
    (folder / "up-next.yaml").write_text(ONLY_KEYS.replace("api:", "timeout: 2s, api:"))
    (folder / "tenants.yaml").write_text("tenants: {batch: {rate: 1}}\n")

    found = json_of(run_lab(None, "render", "gateway-api", "--routes", folder, "--json"))

    assert [(Path(each["file"]).name, each["field"]) for each in found["unexpressed"]] == [
        ("tenants.yaml", "tenants.batch"),
        ("up-next.yaml", "use_cases.UpNext.timeout"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gateway-apy"], "lab: render target 'gateway-apy' is not known; there are "),
        (["gateway-api", "--routes", "missing.yaml"], "lab: missing.yaml: no such file or directory; name a readable"),
        (["gateway-api", "--spec", "missing.toml"], "lab: missing.toml: cannot be read: No such file"),
        (["gateway-api", "--security", "rot13"], "lab: --security: "),
        (["gateway-api", "--out", "/nowhere/at/all"], "lab: --out: /nowhere/at/all: no such file or directory; name a"),
        (["gateway-api", "--out", "/proc/version"], "lab: --out: /proc/version: not a directory; name a folder"),
        (["gateway-api", "--out", "/proc/rendered"], "lab: --out: /proc/rendered: no such file or directory; name a"),
        (["kubernetes"], "lab: --out: name a folder; kubernetes renders folders of files, some with private keys"),
        (["istio", "--image", "lab:1"], "lab: --image: istio names no image; leave it out, or render kubernetes"),
        (
            ["istio", "--slo", "availability>=99%"],
            "lab: --slo: istio has no error budgets; leave it out, or render prometheus",
        ),
        (
            ["prometheus", "--slo", "availability>=100%"],
            "lab: --slo: 'availability>=100%' leaves no error budget; write less than 100 %, e.g. ",
        ),
        (
            ["prometheus", "--slo", "99"],
            "lab: --slo: '99' is not an objective; write e.g. 'availability>=99.9%'",
        ),
        (["gateway-api", "--out"], "lab: Option '--out' requires an argument."),
        ([], "lab: Missing argument 'TARGET'."),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str) -> None:
    assert refusal(run_lab(None, "render", *arguments)).startswith(message)


def test_a_mistyped_target_is_guessed() -> None:
    assert refusal(run_lab(None, "render", "gatewayapi")).endswith("did you mean 'gateway-api'?")


def test_an_invalid_table_leaves_nothing_behind(tmp_path: Path) -> None:
    routes, out = tmp_path / "routes.yaml", tmp_path / "out"
    routes.write_text(ONLY_KEYS.replace("cluster: c", "cluster: d"))

    line = refusal(run_lab(None, "render", "gateway-api", "--routes", routes, "--out", out))

    assert line.startswith(f"lab: {routes}:3: models.up-next.versions.v1.cluster: ")
    assert not out.exists()
