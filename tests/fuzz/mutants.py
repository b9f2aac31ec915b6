"""Wrong inputs, made of whole ones."""

from collections.abc import Sequence
from random import Random

# What readers stumble over.
_PIECES = (
    *(b"\0", b"\xff", b"\xc3\x28", b"{", b"]", b":", b"*", b"&a", b"- ", b"\n"),
    *(b"-1", b"1e999", b"NaN", b"null", b"\x80" * 10),
)
_MOST = 8


def mutant(random: Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds, with a few things done to it; now and then bytes of no origin."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(200))
    data = bytearray(random.choice(seeds))
    for _ in range(random.randint(1, _MOST)):
        at = random.randrange(len(data) + 1)
        match random.randrange(6):
            case 0:
                data[at : at + random.randint(1, 16)] = b""
            case 1:
                data[at:at] = random.choice(_PIECES)
            case 2:
                data[at : at + 1] = random.randbytes(1)
            case 3:
                begin = random.randrange(len(data) + 1)
                data[at:at] = data[begin : begin + random.randint(1, 64)]
            case 4:
                if at < len(data):
                    data[at] ^= 1 << random.randrange(8)
            case _:
                del data[at + 1_000_000 if random.random() < 0.9 else at :]
    return bytes(data)
