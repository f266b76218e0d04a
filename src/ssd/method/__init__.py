"""The mathematics, pure: no files, ranks, clocks or random numbers that are not arguments."""
