"""The simulation itself: every promise holds in hundreds of seeds, and whatever is broken by hand is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.simulate import main
from benchmarks.simulation.database import SimulatedDatabase
from benchmarks.simulation.mutations import MUTATIONS
from benchmarks.simulation.seed import Result, run_seed
from tests.layout import ROOT

SEEDS = 200
"""Short ones; the command runs longer ones, and more of them."""
MOST_SEEDS = 1000
"""Within which each mutation must be noticed."""
BEGIN_AT = {
    "clean_up_takes_live_rows": 55,
    "fence_not_checked": 5,
    "key_not_unique": 12,
    "lease_never_ends": 8,
    "lost_fence_not_told_again": 65,
    "sweep_does_not_rescue": 8,
    "sweep_wakes_nobody": 11,
}
"""Where the seeds of a mutation begin, a little before the one that notices it, so that the test takes seconds."""
FAULTS = (
    *(
        "dies at",
        "stands still",
        "answer is lost",
        " late",
        "once more",
        "Http5",
        "Http429",
        "Http401",
        "Http422",
    ),
    *(
        "Redis is wiped",
        "Redis is away",
        "a job is lost",
        "jump",
        "is wrong by",
        "the remote is away",
        "is killed",
    ),
    *(
        "the database is away",
        "the scheduler is away",
        "clean-up with",
        "CANCELLED",
        "come back",
        "somebody cancels",
    ),
    *(
        "somebody retries",
        "somebody confirms",
        "somebody pauses",
        "'lost'",
        "'rescued'",
        "'fixed'",
    ),
)


@pytest.fixture(scope="module")
def database() -> Iterator[SimulatedDatabase]:
    """One for all seeds: each begins with an empty one."""
    made = SimulatedDatabase()
    yield made
    made.close()


def noticed(name: str, database: SimulatedDatabase) -> Result:
    """The first seed that notices a mutation, or else the last one."""
    first = BEGIN_AT.get(name, 1)
    with MUTATIONS[name]():
        for seed in range(first, first + MOST_SEEDS):
            result = run_seed(seed, 40, database)
            if result.broken:
                break
    return result


@pytest.mark.timeout(300)
def test_every_promise_holds_in_hundreds_of_seeds(database: SimulatedDatabase) -> None:
    faults = set(FAULTS)
    for seed in range(1, SEEDS + 1):
        result = run_seed(seed, 12, database, history=0)
        assert result.broken is None, "\n".join((*result.history[-30:], f"seed {seed}, 12 operations"))
        told = "\n".join(result.history)
        faults -= {fault for fault in faults if fault in told}
    assert faults == set()  # every one came about


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_product_that_is_broken_by_hand_is_noticed(name: str, database: SimulatedDatabase) -> None:
    result = noticed(name, database)
    whole = run_seed(result.seed, 40, database)

    assert result.broken is not None
    assert whole.broken is None, f"seed {result.seed} fails without {name}, too"


def test_the_same_seed_gives_the_same_history_in_another_process(database: SimulatedDatabase) -> None:
    here = [run_seed(seed, 40, database) for seed in (5, 6, 5)]
    there = subprocess.run(
        [sys.executable, "-m", "benchmarks.simulate", "--seed", "5", "--json"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )

    assert here[0].digest == here[2].digest != here[1].digest
    assert json.loads(there.stdout)["digest"] == here[0].digest


def test_a_seed_that_fails_is_told_with_the_command_that_runs_it_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--first", "8", "--seeds", "40", "--mutation", "sweep_does_not_rescue"]) == 1

    told = capsys.readouterr().out.splitlines()
    (command,) = [line for line in told if "python -m benchmarks.simulate" in line]
    (verdict,) = [line for line in told if line.startswith("seed ")]
    assert len(told) <= 34
    assert "not settled after" in verdict

    assert main(command.partition("benchmarks.simulate ")[2].split()) == 1
    again = capsys.readouterr().out.splitlines()
    assert verdict in again
    assert len(again) > len(told)


def test_seeds_in_which_all_is_well_end_with_their_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--first", "3", "--seeds", "2", "--operations", "10", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["first"], told["seeds"], told["operations"], told["broken"]) == (3, 2, 20, None)
    assert told["requests"] > 0
