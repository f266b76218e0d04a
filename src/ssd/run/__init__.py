"""One run of the method: its folder, its dependencies, and its comparisons."""

from ssd.run.folder import Run, load_run, save_run, stage_parser

__all__ = ["Run", "load_run", "save_run", "stage_parser"]
