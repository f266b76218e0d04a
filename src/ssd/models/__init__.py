"""Where weights come from, and how a problem becomes token ids."""

from ssd.models.weights import Weights

__all__ = ["Weights"]
