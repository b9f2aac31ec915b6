"""Checks that resilience settings fit together, within a use case and between use cases that share a version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.routing.durations import seconds
from lab.routing.resilience import SETTINGS, Policy, has_settings
from lab.routing.yaml_nodes import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Path = tuple[str | int, ...]
    References = Callable[[Path, Mapping[str, Any]], Iterator[tuple[Path, str]]]


def misfits(path: Path, use_case: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Settings of one use case that contradict each other: where, and the remedy."""
    retries, hedge = use_case.get("retries", {}), use_case.get("hedge")
    if hedge is not None:
        if "retries" in use_case:
            yield (*path, "hedge"), "goes on where retries stop, and Envoy counts them as one; keep hedge or retries"
        if not use_case.get("idempotent", False):
            yield (*path, "hedge"), "sends a request twice; write 'idempotent: true' if that does no harm, or drop it"
        yield from _too_long((*path, "hedge", "after"), hedge["after"], use_case["timeout"])
    if "per_try" in retries:
        if "unavailable" not in retries.get("on", ("unavailable",)):
            yield (*path, "retries", "per_try"), "gives an attempt up as unavailable; add 'unavailable' to 'on'"
        yield from _too_long((*path, "retries", "per_try"), retries["per_try"], use_case["timeout"])


def _too_long(path: Path, duration: str, timeout: str) -> Iterator[tuple[Path, str]]:
    if seconds(duration) >= seconds(timeout):
        yield path, f"{duration} is not shorter than the use case's timeout, {timeout}; shorten it"


def clashes(
    use_cases: Mapping[str, Any], references: References, beside: Mapping[str, Any] | None = None
) -> Iterator[tuple[Path, str]]:
    """Settings that differ between use cases that may use the same model version.

    Args:
        use_cases: of the right shape; the problems are reported here.
        references: every model version that a use case names, and where.
        beside: the other use cases of the table, valid among themselves; those with the same names are ignored.
    """
    others = {name: one for name, one in (beside or {}).items() if name not in use_cases}
    if not any(has_settings(each) for part in (use_cases, others) for each in part.values()):
        return
    first_with: dict[str, tuple[str, Policy]] = {}
    for name, use_case in {**others, **use_cases}.items():
        policy = Policy.of(use_case) or Policy()
        for place, version in references((), use_case):
            if place[0] == "shadow":
                continue
            other, its_policy = first_with.setdefault(version, (name, policy))
            if policy != its_policy and name in use_cases:
                yield _clash(name, use_case, policy, other, its_policy, version)
                break


def _clash(
    name: str, use_case: Mapping[str, Any], policy: Policy, other: str, its_policy: Policy, version: str
) -> tuple[Path, str]:
    setting = next(each for each in SETTINGS if policy.setting(each) != its_policy.setting(each))
    path: Path = ("use_cases", name, setting) if setting in use_case else ("use_cases", name)
    text = (
        f"{setting!r} differs from that of {dotted(('use_cases', other))}, and both may be answered by {version}, "
        f"whose replicas are treated in one way; make {setting!r} equal in both, or give one a version of its own"
    )
    return path, text
