"""Checks of rendered documents against the projects' own schemas, closed to unknown fields."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from lab import CHECKOUT
from tests.missing import missing

Documents = Sequence[Mapping[str, Any]]

PACKAGES = CHECKOUT / ".venv" / "render-schemas"
SCHEMAS = Path(__file__).with_name("schemas")
OWN = yaml.safe_load((SCHEMAS / "own.yaml").read_text())
NEWER_THAN_ISTIO_1_24 = {"backoff", "retryBudget"}
"""Fields that the models for Python 3.11 lack; those of npm have them."""


def errors_of(documents: Documents) -> list[str]:
    """What is wrong with each document; empty texts if nothing is."""
    found = ["" for _ in documents]
    for check in (by_kubernetes_models, by_cloudcoil, by_cfn_lint, by_own_schema):
        mine = [number for number, document in enumerate(documents) if check in checks_of(document)]
        if mine:
            for number, error in zip(mine, check([documents[number] for number in mine]), strict=True):
                found[number] = found[number] or error
    return found


def checks_of(document: Mapping[str, Any]) -> tuple[Callable[[Documents], list[str]], ...]:
    if "AWSTemplateFormatVersion" in document or "Resources" in document:
        return (by_cfn_lint,)
    group = str(document.get("apiVersion", "")).partition("/")[0]
    if group == "networking.istio.io":
        return by_kubernetes_models, by_cloudcoil
    if group != "gateway.networking.k8s.io":
        return (by_own_schema,)
    return (by_kubernetes_models, by_own_schema) if is_of_service(document) else (by_kubernetes_models,)


def is_of_service(document: Mapping[str, Any]) -> bool:
    """Whether it is a route that a mesh follows: Linkerd's."""
    parents = document.get("spec", {}).get("parentRefs", [])
    return document.get("kind") == "GRPCRoute" and any(parent.get("kind") == "Service" for parent in parents)


def by_kubernetes_models(documents: Documents) -> list[str]:
    """Validators and types of npm's ``@kubernetes-models``, which are made from the CRDs."""
    if not (PACKAGES / "node_modules").exists():
        missing("the schemas are not installed: make render-schemas")
    program = SCHEMAS / "check.mjs"
    (PACKAGES / program.name).write_text(program.read_text())
    done = subprocess.run(
        ["node", program.name],
        cwd=PACKAGES,
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )
    return list(json.loads(done.stdout))


def by_cloudcoil(documents: Documents) -> list[str]:
    """Models of PyPI's ``cloudcoil-models-istio``, which leave out unknown fields: what they read must be all."""
    v1 = optional("cloudcoil.models.istio.networking.v1")
    errors = []
    for document in documents:
        try:
            model = getattr(v1, str(document.get("kind")))
            read = model.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
            errors.append("; ".join(lost(document, read)))
        except (AttributeError, ValueError) as error:
            errors.append(str(error))
    return errors


def lost(written: Any, read: Any, place: str = "") -> Iterator[str]:
    """Where a document has what its reader has not."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key in written.keys() - NEWER_THAN_ISTIO_1_24:
            yield from lost(written[key], read[key], f"{place}.{key}") if key in read else [f"{place}.{key} is unknown"]
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for number, (one, other) in enumerate(zip(written, read, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif written != read:
        yield f"{place} is read as {read!r}"


def by_cfn_lint(documents: Documents) -> list[str]:
    """CloudFormation's own resource schemas, in PyPI's ``cfn-lint``."""
    lint, config = optional("cfnlint.api").lint, optional("cfnlint.config").ManualArgs(regions=["us-east-1"])
    rules = optional("cfnlint.core").get_rules([], [], [])
    found = [lint(yaml.safe_dump(document), rules=rules, config=config) for document in documents]
    return ["; ".join(str(match.message) for match in matches) for matches in found]


def by_own_schema(documents: Documents) -> list[str]:
    """Schemas of this test suite, for projects that publish no package of them."""
    errors = []
    for document in documents:
        kind = "Kong" if "services" in document or "_format_version" in document else str(document.get("kind"))
        if kind not in OWN["$defs"]:
            errors.append(f"no kind {kind}")
            continue
        validator = jsonschema.Draft202012Validator({"$defs": OWN["$defs"], **OWN["$defs"][kind]})
        errors.append("; ".join(error.message for error in validator.iter_errors(document)))
    return errors


def optional(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        missing(f"{module} is not installed: make lint installs it")
