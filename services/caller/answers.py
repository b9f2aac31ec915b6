"""Answers as callers show them, in one line, and their default answers. One entry an API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models.apis import API_BY_REQUEST
from models.proto.fraud.v1 import fraud_pb2
from models.proto.generation.v1 import generation_pb2
from models.proto.ranking.v1 import ranking_pb2

_SHOWN = 3
# Neither accepted nor refused: a person decides.
_UNDECIDED = 0.5


@dataclass(frozen=True, slots=True)
class Wording:
    """How one API's answers are shown and made.

    Attributes:
        line: shows an answer in one line, best item first.
        default: makes the default answer to a request.
    """

    line: Callable[[Any], str]
    default: Callable[[Any], Any]


def _ranked_line(response: ranking_pb2.RankResponse) -> str:
    shown = [f"{title.id} {title.score:.3f}" for title in response.titles[:_SHOWN]]
    more = len(response.titles) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _unranked(request: ranking_pb2.RankRequest) -> ranking_pb2.RankResponse:
    titles = [ranking_pb2.RankedTitle(id=title.id) for title in request.titles]
    return ranking_pb2.RankResponse(titles=titles)


WORDINGS: dict[str, Wording] = {
    "ranking.v1": Wording(_ranked_line, _unranked),
    "fraud.v1": Wording(
        lambda response: f"{response.payment_id} {response.score:.3f}",
        lambda request: fraud_pb2.ScoreResponse(payment_id=request.payment.id, score=_UNDECIDED),
    ),
    "generate.v1": Wording(
        lambda response: (
            f"{len(response.tokens)} tokens; of the prompt's {response.usage.prompt_tokens}, "
            f"{response.usage.cached_tokens} were cached"
        ),
        lambda _: generation_pb2.GenerateResponse(),
    ),
}


def default_answer(use_case: str, request: Any, context: Mapping[str, str]) -> Any:
    """A caller's default answer, without a model: titles in their given order, payments undecided, no tokens."""
    del use_case, context
    return WORDINGS[API_BY_REQUEST[type(request)].name].default(request)
