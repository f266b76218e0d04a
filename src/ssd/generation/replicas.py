"""Several replicas as one engine: they get requests as they ask for more, and whichever ends is
started again while it is of use."""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing import connection
from typing import Any, Protocol, Self

from ssd.config.choices import Accelerator
from ssd.errors import HardwareError
from ssd.generation.backlog import STRIKES, Backlog
from ssd.generation.engine import Completion, Request, at_hand
from ssd.generation.local_replica import Ending, Worker
from ssd.generation.messages import Answered, Draw, Key, Load, Ready, Ticked, key
from ssd.runtime.children import ENDING_SECONDS

STARTS = 3
"""Starts in a row without an answer after which a replica is left out."""
WINDOW = 2
"""Requests that a replica has, for each that it draws at once: the next ones are there when some
end."""
START_SECONDS = 3600.0
"""Longest start. Weights of a hundred GB from a network's disk, and compiling, take half of it."""
SILENT_SECONDS = {Accelerator.gpu: 600.0, Accelerator.cpu: 1800.0}
"""Longest silence of a replica that has requests. Engines tick once a second, but for steps that
take longer: the longest is a batch's prefill, minutes on a CPU and seconds on a GPU."""
LOOK_SECONDS = 1.0
"""Seconds between two looks at who is silent."""
TRIAL: Key = (-1, "", -1)
"""Names a request whose answer is known to be possible, which shows that a replica works."""


class Place(Protocol):
    """Where a replica runs."""

    @property
    def name(self) -> str:
        """In messages."""
        ...

    def start(self, load: Load) -> Worker:
        """Start a replica there."""
        ...


class Replica:
    """What is known of one replica, over all its starts."""

    def __init__(self, place: Place, load: Load) -> None:
        self.place, self.load = place, load
        self.failures = 0
        """Ends in a row without an answer."""
        self.start()

    def start(self) -> None:
        """Start its process, with nothing to do."""
        self.num_sequences = 0
        """Most requests that it draws at once; 0 until its engine is loaded."""
        self.job = 0
        self.unanswered: dict[Key, Request] = {}
        self.is_alone = False
        """Whether these are suspects."""
        self.num_ticked = self.num_answered = 0
        """Tokens of this job."""
        self.heard = time.monotonic()
        self.worker = self.place.start(self.load)

    def ask(self, draw: Draw, requests: dict[Key, Request]) -> None:
        """Give it requests; that it has ended is noticed when it is listened to."""
        if not self.unanswered:
            self.heard = time.monotonic()
        self.unanswered |= requests
        with suppress(OSError):
            if self.job != draw.job:
                self.job, self.num_ticked, self.num_answered = draw.job, 0, 0
                self.worker.connection.send(draw)
            self.worker.connection.send(list(requests.values()))

    def answered(self, message: Answered) -> Request | None:
        """The request that was answered; None of one that only showed that the replica works."""
        request = self.unanswered.pop(message.request)
        self.failures = 0
        self.is_alone &= bool(self.unanswered)
        if message.request == TRIAL:
            return None
        self.num_answered += len(message.completion.token_ids)
        return request

    def finish(self) -> None:
        """Tell it that its job has no more requests, if it has one."""
        if self.job:
            with suppress(OSError):
                self.worker.connection.send(None)
        self.job = self.num_ticked = self.num_answered = 0

    def is_silent(self, seconds: float) -> bool:
        """Whether it has not been heard for so long while it had something to do."""
        limit = START_SECONDS if not self.num_sequences else seconds
        is_busy = bool(self.unanswered) or not self.num_sequences
        return is_busy and time.monotonic() - self.heard > limit

    def halve(self) -> None:
        """Let it draw half as many sequences at once from its next start on."""
        hardware = self.load.hardware
        number = self.num_sequences or hardware.max_num_seqs or 2
        self.load = replace(self.load, hardware=replace(hardware, max_num_seqs=max(1, number // 2)))


class Replicas:
    """An engine of several, each in a process of its own."""

    def __init__(
        self,
        places: Sequence[Place],
        load: Load,
        *,
        silent_seconds: float | None = None,
        until_closed: ExitStack | None = None,
    ) -> None:
        """Start them all, and wait for the first one.

        Args:
            until_closed: what the places need; closed after the replicas.

        Raises:
            HardwareError: none can start.
        """
        self.silent_seconds = silent_seconds or SILENT_SECONDS[load.hardware.accelerator]
        self.needed = until_closed or ExitStack()
        self.jobs = itertools.count(1)
        self.has_started = False
        self.known_good: Request | None = None
        """One that was answered."""
        self.replicas: list[Replica] = []
        with ExitStack() as unless_started:
            unless_started.push(self)
            for place in places:
                self.replicas.append(Replica(place, load))
            print(f"{len(places)} engines start side by side", flush=True)
            while not self.has_started:
                for _ in self._listen(Backlog(), lambda _: None):
                    pass
            unless_started.pop_all()

    @property
    def num_sequences(self) -> int:
        """Most requests that all of them draw at once."""
        return sum(replica.num_sequences for replica in self.replicas)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for replica in self.replicas:
            replica.worker.stop()
        latest = time.monotonic() + ENDING_SECONDS
        for replica in self.replicas:
            # One that starts has nothing to close, and a library may swallow its exception.
            seconds = latest - time.monotonic() if replica.num_sequences else 0.0
            replica.worker.end(max(0.0, seconds))
        self.replicas.clear()
        self.needed.close()

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        logprobs: int | None,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, in the order in which they end.

        Raises:
            HardwareError: no replica is left, or, when everything else is answered, requests ended
                each replica that drew them.
        """
        incoming, backlog = iter(requests), Backlog()
        draw = Draw(next(self.jobs), logprobs)
        while True:
            backlog.add(at_hand(incoming))
            if not backlog.num_unanswered:
                break
            self._hand_out(backlog, draw)
            for replica, message in self._listen(backlog, tick):
                if isinstance(message, Ticked) and message.job == draw.job:
                    replica.num_ticked += message.num_tokens
                    tick(message.num_tokens)
                elif isinstance(message, Answered) and (request := replica.answered(message)):
                    self.known_good = request
                    backlog.num_unanswered -= 1
                    yield request, message.completion
        for replica in self.replicas:
            tick(replica.num_answered - replica.num_ticked)
            replica.finish()
        if backlog.refused:
            raise HardwareError(_refusal(backlog.refused))

    def _hand_out(self, backlog: Backlog, draw: Draw) -> None:
        """Give every replica as many requests as it has room for, and no more than its share of
        what is left, so that all of them end together."""
        share = math.ceil(backlog.num_unanswered / len(self.replicas))
        for replica in sorted(self.replicas, key=lambda replica: len(replica.unanswered)):
            if not replica.num_sequences or replica.is_alone:
                continue
            room = min(WINDOW * replica.num_sequences, share) - len(replica.unanswered)
            if requests := backlog.take(max(room, 0)):
                replica.ask(draw, {key(request): request for request in requests})
            elif not replica.unanswered and backlog.suspects and not backlog.waiting:
                replica.is_alone = True
                replica.ask(draw, self._suspects(replica, backlog))

    def _suspects(self, replica: Replica, backlog: Backlog) -> dict[Key, Request]:
        """Requests that may end the replica; before that, where it has ended, one that does not, or
        a GPU that fails at everything would make them look guilty."""
        if replica.failures and self.known_good is not None:
            part, prompt_id, sample_index = TRIAL
            trial = replace(
                self.known_good, part=part, prompt_id=prompt_id, sample_index=sample_index
            )
            return {TRIAL: replace(trial, max_new_tokens=1)}
        return {key(request): request for request in backlog.suspects.popleft()}

    def _listen(
        self, backlog: Backlog, tick: Callable[[int], None]
    ) -> Iterator[tuple[Replica, Any]]:
        """What replicas say within a moment; those that have ended are started again."""
        by_connection = {replica.worker.connection: replica for replica in self.replicas}
        channels: list[Any] = list(by_connection)
        heard: list[Any] = connection.wait(channels, LOOK_SECONDS)
        for ready in heard:
            replica = by_connection[ready]
            try:
                message = ready.recv()
            except (EOFError, OSError):
                self._restart(replica, replica.worker.end(ENDING_SECONDS), backlog, tick)
                continue
            replica.heard = time.monotonic()
            if isinstance(message, Ready):
                replica.num_sequences, self.has_started = message.num_sequences, True
            yield replica, message
        for replica in list(self.replicas):
            if replica.is_silent(self.silent_seconds):
                seconds = time.monotonic() - replica.heard
                ending = replace(replica.worker.end(0.0), is_reported=False, out_of_memory=False)
                ending = replace(ending, reason=f"silent for {seconds:.0f} s, {ending.reason}")
                self._restart(replica, ending, backlog, tick)

    def _restart(
        self, replica: Replica, ending: Ending, backlog: Backlog, tick: Callable[[int], None]
    ) -> None:
        """Put back what a replica that has ended had to draw, and start it again.

        Raises:
            HardwareError: it was the last one, or none has ever started and each said why.
        """
        tick(replica.num_answered - replica.num_ticked)  # what it drew in vain does not count
        requests = [request for name, request in replica.unanswered.items() if name != TRIAL]
        backlog.put_back(requests)
        replica.failures += 1
        everywhere = not self.has_started and all(other.failures for other in self.replicas)
        if everywhere and ending.is_reported and not ending.out_of_memory:
            raise HardwareError(ending.reason)
        what = f"{replica.place.name}: {ending.reason}"
        if replica.failures == STARTS:
            self.replicas.remove(replica)
            what = f"{what}; {STARTS} starts in a row without an answer"
            if not self.replicas:
                raise HardwareError(f"no engine is left: {what}")
            print(f"warning: {what}: it is left out, {len(self.replicas)} go on", flush=True)
            return
        if ending.out_of_memory:
            replica.halve()
            what = f"{what}; from now on {replica.load.hardware.max_num_seqs} sequences at once"
        print(f"{what}: started again, {len(requests)} requests are drawn again", flush=True)
        replica.start()


def _refusal(requests: list[Request]) -> str:
    names = ", ".join(
        f"{request.prompt_id} (sample {request.sample_index})" for request in requests
    )
    return (
        f"{len(requests)} request(s) ended each engine that drew them, {STRIKES} times: {names}; "
        "everything else is on disk: leave these prompts out, or see the logs named above"
    )
