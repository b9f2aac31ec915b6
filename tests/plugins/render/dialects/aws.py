"""Where a request goes by an Application Load Balancer; knows nothing of how the template was rendered.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-rules.html: rules are tried from the lowest
priority number; all conditions of a rule must hold, each with one of its values. Header values are compared without
regard to case, and ``*`` and ``?`` stand for characters. A group's cluster is in its tag.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.plugins.render.dialects.answer import Answer, Request


def answer(documents: Sequence[Mapping[str, Any]], request: Request) -> Answer:
    [template] = documents
    resources = template["Resources"]
    rules = [each["Properties"] for each in resources.values() if each["Type"].endswith("::ListenerRule")]
    assert len({rule["Priority"] for rule in rules}) == len(rules)
    for rule in sorted(rules, key=lambda each: int(each["Priority"])):
        if all(holds(condition, request) for condition in rule["Conditions"]):
            [action] = rule["Actions"]
            return forwarded(resources, action, request)
    return {}


def holds(condition: Mapping[str, Any], request: Request) -> bool:
    assert condition["Field"] == "http-header"
    config = condition["HttpHeaderConfig"]
    value = request.headers.get(config["HttpHeaderName"].lower())
    return value is not None and any(
        re.fullmatch(re.escape(each).replace(r"\*", ".*").replace(r"\?", "."), value, re.IGNORECASE)
        for each in config["Values"]
    )


def forwarded(resources: Mapping[str, Any], action: Mapping[str, Any], request: Request) -> Answer:
    if action["Type"] != "forward":
        return {}
    group = resources[action["TargetGroupArn"]["Ref"]]["Properties"]
    [cluster] = [tag["Value"] for tag in group["Tags"] if tag["Key"] == "cluster"]
    return {(cluster, request.headers.get("x-routing-key", "")): 100}
