"""How a process is run: on which hardware, how it reports, how it ends."""
