"""One run of the method: its folder, what it depends on, and what it compares with what."""

from ssd.run.folder import Run, load_run, save_run, stage_parser

__all__ = ["Run", "load_run", "save_run", "stage_parser"]
