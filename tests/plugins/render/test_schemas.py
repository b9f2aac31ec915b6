"""What is rendered is valid by the projects' own schemas, and what is broken is not."""

import pytest

from lab.spec import override
from tests.plugins.render.agreement import EVERYTHING, SPEC, documents_of, render
from tests.plugins.render.broken import CORPUS, broken
from tests.plugins.render.checks import errors_of

pytestmark = pytest.mark.timeout(600)  # TypeScript and cfn-lint read large schemas, once for each of these tests


def test_a_rendering_follows_the_schemas() -> None:
    documents = [
        (target, security, document)
        for target in CORPUS
        for security in ("mtls", "plaintext")
        for document in documents_of(render(target, EVERYTHING, override(SPEC, security=security)))
    ]

    errors = errors_of([document for _, _, document in documents])

    assert [(*each, error) for each, error in zip(documents, errors, strict=True) if error] == []


def test_a_broken_document_does_not() -> None:
    corpus = [
        (target, change, broken(documents_of(render(target, EVERYTHING)), change))
        for target, changes in CORPUS.items()
        for change in changes
    ]

    errors = errors_of([document for _, _, document in corpus])

    accepted = [(target, change.why) for (target, change, _), error in zip(corpus, errors, strict=True) if not error]
    assert accepted == []


def test_the_corpus_is_large_and_each_document_says_why_it_is_wrong() -> None:
    whys = [(target, each.why) for target, corpus in CORPUS.items() for each in corpus]

    assert len(set(whys)) == len(whys) >= 60
