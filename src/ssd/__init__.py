"""Simple self-distillation: sample a frozen model, tune it on its samples, measure the change."""

__version__ = "0.1.0"
