"""Drawing completions: one engine protocol, resumable shards, a seed per request."""

from ssd.generation.engine import Completion, Request
from ssd.generation.shards import generate_shards

__all__ = ["Completion", "Request", "generate_shards"]
