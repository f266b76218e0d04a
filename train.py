"""Simple self-distillation: `python train.py [GROUP=OPTION] [KEY=VALUE]`, `-m` sweeps, `--help`."""

from ssd.drive.command import main

if __name__ == "__main__":
    main()
