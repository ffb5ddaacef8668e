"""Free network ports."""

import random
import socket

PORTS = range(20000, 32768)  # below the ephemeral ports of Linux


def free_port() -> int:
    """Returns a port that is free now and unlikely to be taken within the next seconds."""
    draw = random.Random()  # not seeded by the run: several jobs of one configuration may share a machine
    while True:
        port = draw.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        return port
