"""The judge of `python -m benchmarks.soak`: each fault that a soak may end with is found, and a good one is passed."""

from typing import Any

import pytest

from benchmarks.soak.verdict import faults

FLAT = [50.0, 60.0, 61.0, 60.5, 61.0, 60.0]
GOOD: dict[str, Any] = {
    "wanted": 2,
    "in_time": 2,
    "recorded": ["a", "b"],
    "retried": ["old"],
    "journal": [("a", "a:1"), ("b", "b:1"), ("old", "old:2")],
    "errors": [],
    "backlog": 0,
    "broken": [],
    "memory": {"web": FLAT},
    "connections": {"Redis": [3, 9, 8, 9, 9, 11]},
}


def test_a_soak_in_which_all_was_well_is_passed() -> None:
    assert faults(**GOOD) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"journal": GOOD["journal"][1:]}, "1: never came to the remote: a"),
        ({"journal": [*GOOD["journal"], ("b", "b:1")]}, "1: came more than once under one key: b:1"),
        ({"journal": [*GOOD["journal"], ("b", "b:2")]}, "1: came more often than it was recorded or retried: b"),
        ({"journal": [*GOOD["journal"], ("c", "c:1")]}, "1: came though nobody recorded it: c"),
        ({"retried": ["old", "other"]}, "1: was retried and never came: other"),
        ({"wanted": 3}, "2 of 3 calls were made in time"),
        ({"errors": ["page: /: 500"]}, "1 errors: page: /: 500"),
        ({"backlog": 7}, "7 orders are not delivered"),
        ({"broken": ["tally_differs: [[1, 2]]"]}, "the audit found: tally_differs: [[1, 2]]"),
        ({"memory": {"web": [50, 60, 60, 60, 70, 70]}}, "the memory of web grows: 60.0 MB in the second third, 70.0 MB in the last"),
        ({"memory": {"web": [60.0] * 5}}, "web: 5 samples are too few to tell whether they are flat"),
        ({"memory": {"worker": [60, 60, 60, 0, 0, 60]}}, "worker was gone when it was measured"),
        ({"connections": {"Redis": [3, 9, 8, 9, 9, 12]}}, "connections to Redis grow: 9 in the second third, 12 in the last"),
    ],
)  # fmt: skip
def test_each_fault_is_found_and_said(changed: dict[str, Any], said: str) -> None:
    found = faults(**GOOD | changed)

    assert said in found
