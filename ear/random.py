"""Random generators keyed by their purpose.

A draw depends only on the run's seed, the name of its stream and an index (a step, an epoch, an image), never on how
many draws were made before it. So a resumed run needs no saved generator state to continue exactly as if it had not
been interrupted, and a batch can be split in any way.
"""

import hashlib

import torch


def stream_seed(seed: int, stream: str, index: int = 0) -> int:
    """A 63-bit seed; distinct (seed, stream, index) give unrelated seeds."""
    digest = hashlib.sha256(f"{seed}/{stream}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream_generator(seed: int, stream: str, index: int = 0) -> torch.Generator:
    """A new CPU generator for (seed, stream, index). Draws on the CPU are the same on every device."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, index))
