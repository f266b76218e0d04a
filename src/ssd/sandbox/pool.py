"""Running untrusted programs: a pool of warm, isolated interpreters that fork for every program.

`judge` runs a candidate and its tests in two processes, so that no candidate can reach its tests;
`execute` runs a candidate as a program with standard input and output. docs/sandbox.md says what is
promised and what is not.
"""

import sys
import threading
from collections.abc import Sequence
from typing import Any

from ssd.errors import HardwareError
from ssd.sandbox.backends import Backend, blocks, candidates
from ssd.sandbox.endings import ERROR, PASSED, Outcome, printable
from ssd.sandbox.worker import Request, Worker, WorkerFault, judge_payload

TRIAL_CODE, TRIAL_SECONDS = "def f(): return 1", 20.0
TRIAL = judge_payload("assert f() == 1", None, ())
MOST_FAULTS = 3


class Sandbox:
    """A pool of workers, for several threads at once; ends them as a context manager."""

    def __init__(self, backend: Backend, *, memory_mib: int, workers: int) -> None:
        self.name, self.workers = backend.name, workers
        self._backend = backend
        self._memory = memory_mib * 2**20
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._stopped = False
        self._lock = threading.Lock()
        self._free = threading.Semaphore(workers)

    def judge(
        self,
        code: str,
        judge: str,
        *,
        before: str = "",
        data: Any = None,
        names: Sequence[str] = (),
        timeout: float,
        call_timeout: float | None = None,
    ) -> Outcome:
        """Run the tests `judge` on the module that `before` and `code` make.

        The judge's globals are `DATA`, which is `data`, and the candidate's: each of `names`, and
        whatever else the judge neither defines nor finds among builtins. The candidate's functions,
        classes and their instances are proxies; plain data is copied. `timeout` is in seconds for
        the whole, `call_timeout` for the candidate's body and for each call into it.

        Raises:
            HardwareError: workers die of it and of an empty program too.
        """
        return self._run(
            Request(
                code=code,
                before=before,
                timeout=timeout,
                call_timeout=call_timeout,
                memory=self._memory,
                payload=judge_payload(judge, data, tuple(names)),
                judged=True,
            )
        )

    def execute(
        self, code: str, stdin: str, *, before: str = "", timeout: float, any_exit: bool = False
    ) -> Outcome:
        """Run `code`, after `before` in the same globals, as a program that reads `stdin`;
        `any_exit` for graders that do not look at what `sys.exit` is given.

        Raises:
            HardwareError: workers die of it and of an empty program too.
        """
        return self._run(
            Request(
                code=code,
                before=before,
                timeout=timeout,
                memory=self._memory,
                payload=stdin.encode("utf-8", "surrogateescape"),
                judged=False,
                any_exit=any_exit,
            )
        )

    def require(self, module: str, benchmark: str) -> None:
        """Refuse to grade a benchmark whose tests import a module that cannot be imported inside.

        Raises:
            HardwareError: `module` cannot.
        """
        outcome = self.judge("", f"import {module}", timeout=TRIAL_SECONDS)
        if outcome.status != PASSED:
            raise HardwareError(
                f"{benchmark} needs {module}, which eval.sandbox={self.name} does not see "
                f"({outcome.detail}): install it into {sys.prefix}"
            )

    def try_out(self) -> str:
        """Why an empty program does not pass; empty where it does."""
        request = Request(
            code=TRIAL_CODE,
            timeout=TRIAL_SECONDS,
            memory=self._memory,
            payload=TRIAL,
            judged=True,
        )
        reason = ""
        for _ in range(2):
            try:
                outcome = self._attempt(request)
            except WorkerFault as fault:
                reason = str(fault)
            else:
                return "" if outcome.status == PASSED else f"{outcome.status} {outcome.detail}"
        return reason

    def _run(self, request: Request) -> Outcome:
        """What a worker replies. A program that ends three of them, while an empty one passes, is
        itself the reason."""
        with self._free:
            for _ in range(MOST_FAULTS):
                try:
                    return self._attempt(request)
                except WorkerFault as error:
                    if self._stopped:
                        raise
                    fault = error
                if reason := self.try_out():
                    raise HardwareError(
                        f"a worker of eval.sandbox={self.name} has failed ({fault}), and the next "
                        f"on an empty program ({reason}): check memory and process limits of this "
                        "machine, or choose another eval.sandbox"
                    )
        return Outcome(ERROR, printable(f"ended the process that ran it ({fault})"), self.name)

    def _attempt(self, request: Request) -> Outcome:
        """What one worker makes of it.

        Raises:
            WorkerFault: it did not start, or died.
        """
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or Worker(self._backend)
        with self._lock:
            self._busy.add(worker)
        try:
            if self._stopped:
                raise WorkerFault("stopped")
            outcome = worker.run(request)
        except BaseException:
            worker.close()
            raise
        finally:
            with self._lock:
                self._busy.discard(worker)
        if worker.clean:
            with self._lock:
                self._idle.append(worker)
        else:
            worker.close()
        return outcome

    def stop(self) -> None:
        """End the programs that run, whose threads then see a `WorkerFault`; nothing runs here any
        more."""
        with self._lock:
            self._stopped = True
            for worker in self._busy:
                worker.kill()

    def close(self) -> None:
        """End every idle worker."""
        with self._lock:
            workers, self._idle = self._idle, []
        for worker in workers:
            worker.close()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_sandbox(name: str, *, memory_mib: int, workers: int = 1) -> Sandbox:
    """A sandbox, tried out with an empty program.

    Args:
        name: `auto`, or a backend: `bwrap`, `namespaces`, `none`.
        memory_mib: for each program, in MiB.
        workers: how many programs run at once.

    Raises:
        HardwareError: no backend starts here, or programs do not under this memory limit.
    """
    reasons = []
    for backend in candidates(name):
        sandbox = Sandbox(backend, memory_mib=memory_mib, workers=workers)
        reason = sandbox.try_out()
        if not reason:
            return sandbox
        sandbox.close()
        reasons.append(f"{backend.name}: {reason}")
    raise HardwareError(
        f"generated code cannot be isolated on this machine ({'; '.join(dict.fromkeys(reasons))}): "
        f"{blocks() or 'install bubblewrap or allow user namespaces'}, "
        "or type eval.sandbox=none to run it unprotected as this user"
    )
