"""Your own render target: a map file by which HAProxy finds the servers of a routing key."""

from __future__ import annotations

from lab.plugins.render import Rendering, Source, Target, Unexpressed

REASON = "a map has one key, and the rules read many fields"
INSTEAD = "a resolver decides, and the request has a routing key"


def render(source: Source) -> Rendering:
    """The map, a line for each model version; the rules of use cases are not in it."""
    table = source.table
    lines = [f"{key} {version.cluster}\n" for key, version in table.versions.items()]
    rules = [
        Unexpressed(("use_cases", use_case, "rules", number), REASON, INSTEAD)
        for use_case, entry in table.document["use_cases"].items()
        for number, _ in enumerate(entry.get("rules", ()))
    ]
    return Rendering({"clusters.map": "".join(lines)}, rules)


TARGET = Target(name="haproxy-map", title="a map from routing key to cluster", render=render)
