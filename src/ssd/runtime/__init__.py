"""How a process runs: its hardware, its reports, its end."""
