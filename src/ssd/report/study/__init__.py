"""A study's report, over several runs."""
