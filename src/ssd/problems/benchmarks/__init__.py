"""Benchmarks: the problems a model is given, and the tests that judge what it answers."""
