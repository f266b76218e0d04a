"""The requests that replicas still have to draw: which are next, and which one kills engines."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from ssd.generation.engine import Request
from ssd.generation.messages import Key, key

STRIKES = 3
"""Times that a replica has ended with a request, the last time with it alone, when the request is
refused."""


class Backlog:
    """Requests that wait, part by part, so that one part after the other is whole, and within each
    the longest first, so that short ones fill the end evenly.

    Those that were drawn when a replica ended are drawn again. If it happens to them twice, one of
    them may be why. They are then put aside until nothing else waits, and drawn in groups by
    themselves, of which the ones that end their replica are halved, until one request is left.
    """

    def __init__(self) -> None:
        self.waiting: deque[Request] = deque()
        self.suspects: deque[list[Request]] = deque()
        self.refused: list[Request] = []
        self.strikes: Counter[Key] = Counter()
        self.num_unanswered = 0
        """Those that replicas draw now included, refused ones not."""

    def add(self, requests: Iterable[Request]) -> None:
        """Take requests that have come."""
        fresh = list(requests)
        if fresh:
            self.num_unanswered += len(fresh)
            self.waiting = deque(sorted([*self.waiting, *fresh], key=_order))

    def take(self, number: int) -> list[Request]:
        """The next requests, at most `number`."""
        return [self.waiting.popleft() for _ in range(min(number, len(self.waiting)))]

    def put_back(self, requests: Sequence[Request]) -> None:
        """Take back what a replica had not answered when it ended."""
        self.strikes.update(map(key, requests))
        struck = [request for request in requests if self.strikes[key(request)] > 1]
        others = [request for request in requests if self.strikes[key(request)] == 1]
        self.waiting.extendleft(reversed(others))
        if len(struck) == 1 and self.strikes[key(struck[0])] >= STRIKES and not others:
            self.refused += struck
            self.num_unanswered -= 1
        elif struck:
            half = (len(struck) + 1) // 2
            self.suspects.extend(filter(None, (struck[:half], struck[half:])))


def _order(request: Request) -> tuple[int, int, int]:
    return request.part, -request.max_new_tokens, -len(request.prompt_token_ids)
