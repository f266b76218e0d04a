"""Which requests replicas get next, and how one that ends engines is found."""

import dataclasses

from ssd.generation.backlog import STRIKES, Backlog
from ssd.generation.engine import Request
from ssd.method.decoding import Decoding


def request(number: int, max_new_tokens: int = 10, length: int = 3) -> Request:
    return Request(f"p{number}", 0, [1] * length, number, max_new_tokens, Decoding(1.0))


def test_the_longest_expected_answers_are_drawn_first() -> None:
    backlog = Backlog()
    backlog.add([request(0, 5), request(1, 20, length=2), request(2, 20, length=9)])
    backlog.add([request(3, 30)])
    assert [asked.prompt_id for asked in backlog.take(9)] == ["p3", "p2", "p1", "p0"]
    assert backlog.num_unanswered == 4


def test_what_a_replica_had_when_it_ended_is_drawn_next() -> None:
    backlog = Backlog()
    backlog.add(map(request, range(6)))
    backlog.put_back(backlog.take(3))
    assert [asked.prompt_id for asked in backlog.take(2)] == ["p0", "p1"]
    assert not backlog.suspects


def test_a_request_that_ends_every_engine_is_refused_and_all_others_are_answered() -> None:
    backlog, guilty = Backlog(), "p37"
    backlog.add(map(request, range(100)))
    answered, ends = set(), 0
    while backlog.num_unanswered:
        asked = backlog.take(32) or backlog.suspects.popleft()
        if guilty in {one.prompt_id for one in asked}:
            backlog.put_back(asked)
            ends += 1
        else:
            answered |= {one.prompt_id for one in asked}
            backlog.num_unanswered -= len(asked)
    assert [refused.prompt_id for refused in backlog.refused] == [guilty]
    assert answered == {f"p{number}" for number in range(100)} - {guilty}
    assert STRIKES <= ends <= 7  # twice in company, then 16, 8, 4, 2, 1


def test_suspects_wait_until_nothing_else_does() -> None:
    backlog = Backlog()
    backlog.add(map(request, range(4)))
    for _ in range(2):
        backlog.put_back(backlog.take(2))
    assert [asked.prompt_id for asked in backlog.take(9)] == ["p2", "p3"]
    assert [[asked.prompt_id for asked in group] for group in backlog.suspects] == [["p0"], ["p1"]]


def test_one_part_of_a_queue_is_drawn_after_the_other_and_names_may_repeat() -> None:
    backlog = Backlog()
    first, second = (
        [dataclasses.replace(request(number, 10 * number), part=part) for number in range(3)]
        for part in (0, 1)
    )
    backlog.add(second)
    backlog.add(first)
    taken = backlog.take(9)
    assert [(asked.part, asked.prompt_id) for asked in taken] == [
        (part, f"p{number}") for part in (0, 1) for number in (2, 1, 0)
    ]
    backlog.put_back(taken[:1])
    backlog.put_back([taken[3]])  # of the same name
    assert not backlog.suspects
