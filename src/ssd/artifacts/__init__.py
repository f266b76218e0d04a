"""Results of stages on disk, found by what they depend on; every name of a file, once."""
