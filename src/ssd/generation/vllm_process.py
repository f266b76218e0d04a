"""vLLM's engine where it is a process of its own."""

from multiprocessing import connection
from threading import Thread
from typing import Any


def notice_death(engine_core: Any) -> None:
    """Make the engine's next step fail once its process has died, for example of too little memory.

    vLLM notices the death too and stops filling its queue of outputs, but a step that waits on that
    queue would wait for ever.
    """
    resources = getattr(engine_core, "resources", None)
    if resources is None:  # the engine runs in this process
        return
    from vllm.v1.engine.exceptions import EngineDeadError

    processes, outputs = list(resources.engine_manager.processes), engine_core.outputs_queue

    def wait() -> None:
        connection.wait([process.sentinel for process in processes])
        outputs.put(EngineDeadError())

    Thread(target=wait, daemon=True, name="end of vLLM's process").start()
