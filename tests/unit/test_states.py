"""Which way an operation may go, for every pair of statuses."""

from __future__ import annotations

from itertools import product

import pytest

from stocksync.store.states import ACTIONS, ORIGINS, STATUSES

# Design, section 4: "pending -> processing -> completed | pending | failed; pending, processing, failed -> cancelled;
# failed, pending -> pending (manual retry)"; section 5: "success completes every operation up to it, failed ones too".
ALLOWED = {
    ("pending", "processing"),
    ("processing", "completed"),
    ("processing", "pending"),
    ("processing", "failed"),
    ("pending", "cancelled"),
    ("processing", "cancelled"),
    ("failed", "cancelled"),
    ("failed", "pending"),
    ("pending", "pending"),
    ("pending", "completed"),
    ("failed", "completed"),
}


def test_the_statuses_are_those_of_the_plan() -> None:
    assert set(STATUSES) == {"pending", "processing", "completed", "failed", "cancelled"}


@pytest.mark.parametrize(("status", "target"), list(product(STATUSES, repeat=2)))
def test_an_operation_goes_only_where_the_design_lets_it(status: str, target: str) -> None:
    assert (status in ORIGINS[target]) is ((status, target) in ALLOWED)


@pytest.mark.parametrize("final", ["completed", "cancelled"])
def test_what_is_over_stays_as_it_is(final: str) -> None:
    assert not any(final in ORIGINS[target] for target in STATUSES)


def test_a_person_may_retry_what_waits_and_what_was_given_up() -> None:
    assert set(ACTIONS["retry"]) == {"pending", "failed"}


def test_a_person_may_cancel_whatever_is_not_over() -> None:
    assert set(ACTIONS["cancel"]) == {"pending", "processing", "failed"}


def test_every_button_leads_where_the_table_allows() -> None:
    for status in STATUSES:
        assert status not in ACTIONS["retry"] or status in ORIGINS["pending"]
        assert (status in ACTIONS["cancel"]) is (status in ORIGINS["cancelled"])
