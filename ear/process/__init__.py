"""The running process: its code, CPUs, device, cooperating processes, interruption and provenance."""
