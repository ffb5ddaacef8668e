"""Randomness keyed by what it is for.

A draw depends on the run's seed, the name of its stream and an index (a step, an epoch, an image), never on how many
draws were made before it. So an interrupted run needs no saved generator state to go on as if nothing had happened,
and a batch can be split in any way.
"""

import hashlib

import torch


def stream_seed(seed: int, stream: str, index: int = 0) -> int:
    """A 63-bit seed for one use; distinct (seed, stream, index) give unrelated ones."""
    digest = hashlib.sha256(f"{seed}/{stream}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream_generator(seed: int, stream: str, index: int = 0) -> torch.Generator:
    """A CPU generator for one use. Draws are made on the CPU, so they are the same whatever the device."""
    return torch.Generator().manual_seed(stream_seed(seed, stream, index))
