"""Every setting of a run: what it may be, how Hydra composes it, which benchmarks it names."""
