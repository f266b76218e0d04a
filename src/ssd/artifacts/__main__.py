"""Re-hash every file of an artifact against its manifest: python -m ssd.artifacts verify FOLDER."""

import argparse
import sys
from pathlib import Path

from ssd.artifacts.store import verify
from ssd.errors import FLAWED, REPORTED, SSDError


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m ssd.artifacts", description=__doc__.splitlines()[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="re-hash an artifact's files").add_argument(
        "folder", type=Path
    )
    folder = parser.parse_args().folder
    try:
        faults = verify(folder)
    except SSDError as error:
        print(f"error: {error}", file=sys.stderr)
        return REPORTED
    print("\n".join(faults) if faults else f"{folder}: every file is as it was written")
    return FLAWED if faults else 0


if __name__ == "__main__":
    sys.exit(main())
