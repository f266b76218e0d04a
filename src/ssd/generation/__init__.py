"""Drawing completions: one engine protocol, resumable shards, a seed per request."""

from ssd.generation.records import Completion, Request, Sample, read_samples, request_seed
from ssd.generation.shards import generate_shards

__all__ = [
    "Completion",
    "Request",
    "Sample",
    "generate_shards",
    "read_samples",
    "request_seed",
]
