"""Types of what `ssd` offers to notebooks, which it imports when it is asked for."""

from ssd.notebook import Results as Results
from ssd.notebook import compose_config as compose_config
from ssd.notebook import grade_answers as grade_answers
from ssd.notebook import load_results as load_results
from ssd.notebook import plan_run as plan_run
from ssd.notebook import start_run as start_run

__version__: str
NOTEBOOK: tuple[str, ...]
