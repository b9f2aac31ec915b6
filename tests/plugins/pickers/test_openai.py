"""OpenAI's API at a gateway: completions, their streams, models, and refusals."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from lab.lab import Lab
from lab.spec import SIZES
from tests.labs import lab_up


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of token models in plaintext, whose replicas take turns."""
    with lab_up(tmp_path_factory.mktemp("plain"), spec=SIZES["tokens"], security="plaintext") as lab:
        yield lab


def asked(plain: Lab, path: str, body: dict[str, Any] | None = None, key: str = "homepage") -> tuple[int, str]:
    """Status and body of a request of OpenAI's API to the gateway."""
    address = plain.endpoints().rest["gateway-1"]
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, headers)  # noqa: S310 (this machine's own)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_completions_are_openais_and_the_second_finds_the_first_ones_prompt(plain: Lab) -> None:
    messages = [{"role": "system", "content": " ".join(f"w{number}" for number in range(70))}]
    body = {"model": "Chat", "messages": messages, "max_tokens": 2, "user": "u1"}

    answers = [json.loads(asked(plain, "/v1/chat/completions", body)[1]) for _ in range(5)]

    assert {answer["choices"][0]["message"]["content"] for answer in answers} == {"g00 g01"}
    assert answers[0]["object"] == "chat.completion"
    usage = {"prompt_tokens": 71, "completion_tokens": 2, "total_tokens": 73}
    assert usage.items() <= answers[0]["usage"].items()
    # Four replicas take turns, and the fifth request comes to the first one again.
    assert [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in answers] == [0, 0, 0, 0, 64]


def test_a_stream_of_completions_ends_with_its_usage_and_done(plain: Lab) -> None:
    body = {"model": "Chat", "prompt": "a b c", "max_tokens": 3, "stream": True}

    status, whole = asked(plain, "/v1/completions", {**body, "stream_options": {"include_usage": True}})
    _, without = asked(plain, "/v1/completions", body)

    events = [each.removeprefix("data: ") for each in whole.strip().split("\n\n")]
    *tokens, usage = map(json.loads, events[:-1])
    assert (status, events[-1]) == (200, "[DONE]")
    assert "".join(each["choices"][0]["text"] for each in tokens) == "g00 g01 g02"
    assert [each["choices"][0]["finish_reason"] for each in tokens] == [None, None, "length"]
    assert all(each["usage"] is None for each in tokens)
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 6)
    assert without.count("data: ") == 4
    assert "usage" not in without


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"model": "Nope"}, 404, "use case 'Nope' is not in the route table"),
        ({"model": ""}, 400, "model: is missing"),
        ({"prompt": ["a", "b"]}, 400, "send one prompt a request"),
        ({"prompt": [-1]}, 400, "send one prompt a request"),
        ({"max_tokens": 0}, 400, "max_tokens: is not a whole number from 1"),
        ({"max_tokens": 1 << 40}, 400, "max_tokens from 1 to 4096"),
        ({"n": 2}, 400, "these models give one choice"),
        ({"user": 5}, 400, "user: is not a text"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"stream": True}])
def test_a_wrong_completion_is_refused_in_openais_form(
    plain: Lab, change: dict[str, Any], status: int, said: str, more: dict[str, Any]
) -> None:
    found, text = asked(plain, "/v1/completions", {"model": "Chat", "prompt": "a", **more, **change})

    assert found == status
    assert said in json.loads(text)["error"]["message"]


def test_the_models_are_the_use_cases_and_a_key_names_the_caller(plain: Lab) -> None:
    assert [each["id"] for each in json.loads(asked(plain, "/v1/models")[1])["data"]] == ["Chat"]
    status, text = asked(plain, "/v1/completions", {"model": "Chat", "prompt": "a"}, key="sk-1")
    assert (status, json.loads(text)["error"]["code"]) == (403, "PERMISSION_DENIED")
    assert asked(plain, "/v1/completions")[0] == 405
    assert asked(plain, "/v1/chat/completions", {"model": "Chat", "messages": [{"role": "user"}]})[0] == 400


def test_a_client_may_ask_for_one_model_and_for_health(plain: Lab) -> None:
    status, text = asked(plain, "/v1/models/Chat")
    assert (status, json.loads(text)["id"]) == (200, "Chat")
    status, text = asked(plain, "/v1/models/Nope%2F")
    assert (status, json.loads(text)["error"]["message"]) == (404, "model 'Nope/' is not known; /v1/models lists all")
    # guidellm asks first.
    assert asked(plain, "/health")[0] == 200
    assert asked(plain, "/health", {})[0] == 405


@pytest.mark.parametrize(
    "more",
    [
        # openai 3.57, for arguments that are None.
        {"n": None, "user": None, "stop": None, "stream": None, "stream_options": None, "max_completion_tokens": None},
        # guidellm 0.8.1.
        {"ignore_eos": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ],
)
def test_what_clients_send_besides_is_taken(plain: Lab, more: dict[str, Any]) -> None:
    status, text = asked(plain, "/v1/completions", {"model": "Chat", "prompt": "a", "max_tokens": 3, **more})
    assert (status, json.loads(text)["usage"]["completion_tokens"]) == (200, 3)


def test_an_assistant_that_called_a_tool_has_said_nothing(plain: Lab) -> None:
    called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    status, text = asked(plain, "/v1/chat/completions", {"model": "Chat", "messages": messages, "max_tokens": 2})
    assert (status, json.loads(text)["usage"]["prompt_tokens"]) == (200, 5)
