"""The KV cache of a token model: what counts as a hit, what stays, and what goes first."""

from __future__ import annotations

from models.tokens.blocks import BLOCK, BlockCache, chain

PROMPT = list(range(4 * BLOCK))


def hashes(prompt: list[int] = PROMPT, tenant: str = "", lora: str = "") -> list[bytes]:
    return chain(prompt, tenant=tenant, lora=lora)


def test_a_block_is_known_by_all_tokens_before_it_and_by_whose_they_are() -> None:
    changed = [99, *PROMPT[1:]]

    assert len(hashes(PROMPT[: 4 * BLOCK - 1])) == 3
    assert hashes(PROMPT[: 2 * BLOCK]) == hashes()[:2]
    assert not set(hashes()) & set(hashes(changed))
    assert len({hashes()[0], hashes(tenant="ads")[0], hashes(lora="a")[0], hashes(tenant="a", lora="ds")[0]}) == 4


def test_the_beginning_of_a_prompt_is_found_again_and_its_last_token_is_always_computed() -> None:
    cache = BlockCache(16)

    assert cache.take(hashes(), len(PROMPT)) == (0, hashes())
    assert cache.hits(hashes(), len(PROMPT)) == 3
    assert cache.hits(hashes(), len(PROMPT) + 1) == 4
    assert cache.hits(hashes([*PROMPT[:BLOCK], *range(100, 200)]), BLOCK + 100) == 1


def test_blocks_in_use_stay_and_of_the_others_the_end_of_the_oldest_prompt_goes_first() -> None:
    cache = BlockCache(6)
    _, first = cache.take(hashes(), len(PROMPT))
    other = hashes(list(range(1_000, 1_000 + 4 * BLOCK)))

    found, second = cache.take(other, len(PROMPT))
    assert (found, second) == (0, other[:2])
    assert cache.used == 1.0

    cache.release(first)
    assert cache.used == 2 / 6
    cache.release(second)
    _, second = cache.take(other, len(PROMPT))
    assert second == other
    assert cache.hits(hashes(), len(PROMPT)) == 2
