"""Classes of a comparison: exactly one for whatever is compared, and nothing is repaired that a person should see."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, strategies as st

from stocksync.store.reconciliation import OurSide
from stocksync.upkeep.discrepancies import classify, is_young
from tests.shop import START

sides = st.builds(
    OurSide,
    id=st.uuids(),
    order_id=st.just("order-1"),
    version=st.just(1),
    state=st.sampled_from([None, True, False]),
    deducted=st.integers(0, 2),
    settled=st.booleans(),
    resting=st.booleans(),
    stopped=st.booleans(),
    completed_at=st.one_of(
        st.none(), st.timedeltas(timedelta(0), timedelta(days=3)).map(lambda age: START - age)
    ),
)
remotes = st.sampled_from([None, True, False])


@given(sides, remotes)
def test_nothing_is_concluded_of_what_moves_or_was_stopped(ours: OurSide, remote: bool | None) -> None:
    kind = classify(ours, remote)

    assert (kind == "in_flight") is not ours.resting
    assert (kind == "given_up") is (ours.resting and ours.stopped)


@given(sides, st.booleans())
def test_of_a_ready_order_the_class_is_the_two_flags(ours: OurSide, remote: bool) -> None:
    if ours.resting and not ours.stopped and ours.settled and ours.state is not None:
        expected = {
            (True, True): "agrees",
            (False, False): "agrees",
            (True, False): "missing_remote",
            (False, True): "cancel_mismatch",
        }
        assert classify(ours, remote) == expected[ours.state, remote]


@given(sides)
def test_a_remote_that_says_true_of_what_was_not_deducted_is_never_agreed_with(ours: OurSide) -> None:
    if ours.resting and not ours.stopped and (ours.state is None or not ours.settled):
        expected = "partial_local" if ours.deducted and not ours.settled else "extra_remote"
        assert classify(ours, True) == expected


def test_an_order_unknown_here_is_extra_only_if_the_remote_has_it_updated() -> None:
    assert [classify(None, remote) for remote in (True, False)] == ["extra_remote", "agrees"]


@given(st.one_of(st.none(), sides))
def test_an_order_is_young_for_as_long_after_its_last_completion_as_the_threshold_says(
    ours: OurSide | None,
) -> None:
    threshold = timedelta(hours=24)
    young = ours is not None and ours.completed_at is not None and START - ours.completed_at < threshold

    assert is_young(ours, START, threshold) is young
