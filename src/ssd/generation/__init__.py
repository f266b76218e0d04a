"""Drawing completions: one engine protocol, resumable shards, a seed per request."""

from ssd.generation.engine import Completion, Request
from ssd.generation.shards import Part, generate_queue, generate_shards

__all__ = ["Completion", "Part", "Request", "generate_queue", "generate_shards"]
