from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from compression.recipe import Recipe
from compression.search.budget import Budget, excesses
from compression.search.opening import first_round
from compression.search.pace import pace, spent
from compression.search.plan import PROBES, Moment, plan
from compression.search.sampler import sample
from compression.search.space import shortened
from compression.search.trial import Trial, best
from compression.technique import Stage
from tests.compression.search.simulated import DATA, MODEL, Simulation, measured, simulated_space, step

BUDGET = Budget(max_metric_drop=0.01, objective="latency", seconds=1200, trials=40)


def names(trial: Trial) -> tuple[str, ...]:
    return tuple(each["technique"] for each in trial.steps)


def test_every_step_that_was_proposed_is_tried_alone_or_before_a_quantization() -> None:
    trials = Simulation(simulated_space(), BUDGET).run()

    tried = {names(trial) for trial in trials}
    assert ("static_quantization",) in tried
    assert ("half_precision",) in tried
    assert ("quantization_aware_training",) in tried
    assert ("channel_pruning", "static_quantization") in tried
    assert ("magnitude_pruning", "static_quantization") in tried


def test_pipelines_are_in_the_order_of_their_stages_and_may_run() -> None:
    for trial in Simulation(simulated_space(), BUDGET).run():
        recipe = Recipe.model_validate({"steps": shortened(trial.steps, trial.share)})
        stages = [type(each).stage for each in recipe.steps]
        assert stages == sorted(stages)
        assert len(set(stages)) == len(stages)
        assert recipe.check(MODEL, DATA) == []


def test_nothing_is_tried_twice() -> None:
    trials = Simulation(simulated_space(), BUDGET).run()
    seen = Counter((str(trial.steps), trial.share) for trial in trials)
    assert max(seen.values()) == 1


def test_the_best_within_the_limits_is_found_and_was_trained_to_its_end() -> None:
    found = best(BUDGET, Simulation(simulated_space(), BUDGET).run())
    assert found is not None
    assert found.measurements is not None
    assert excesses(BUDGET, found.measurements) == []
    assert found.share == 1
    assert found.measurements.ratios["latency"].value > 6, found  # 0.75 of the channels, and int8: 10x


def test_a_strength_between_those_proposed_is_found() -> None:
    trials = Simulation(simulated_space(), BUDGET).run()
    ratios = {each["ratio"] for trial in trials for each in trial.steps if "ratio" in each}
    assert ratios - {0.3, 0.6, 0.9}


def test_trainings_begin_short_and_only_some_go_on() -> None:
    trials = [trial for trial in Simulation(simulated_space(), BUDGET).run() if trial.trained]
    assert trials[0].share == PROBES[0]
    by_share = Counter(trial.share for trial in trials)
    assert len(by_share) >= 3
    assert by_share[1.0] < len(trials) / 2


@pytest.mark.parametrize("seconds", [60, 300, 1200])
def test_time_is_kept_and_something_is_always_found(seconds: int) -> None:
    budget = BUDGET.model_copy(update={"seconds": seconds, "trials": 1000})
    simulation = Simulation(simulated_space(), budget)
    trials = simulation.run()
    assert spent(trials) <= 1.5 * seconds + 10
    assert best(budget, trials) is not None


@pytest.mark.parametrize("trials", [1, 2, 5])
def test_no_more_trials_than_allowed(trials: int) -> None:
    budget = BUDGET.model_copy(update={"trials": trials})
    done = Simulation(simulated_space(), budget).run()
    assert len(done) == trials
    assert best(budget, done) is not None


def test_all_seats_are_taken() -> None:
    opened = plan(simulated_space(), BUDGET, [], Moment(0, 3), sample)
    assert len(opened) == 3
    trials = [Trial(at, each.steps, each.share, "open") for at, each in enumerate(opened)]
    assert plan(simulated_space(), BUDGET, trials, Moment(1, 3), sample) == []


def test_the_same_seed_searches_the_same_way() -> None:
    def tried(seed: int) -> Sequence[tuple[Sequence[Mapping[str, Any]], float]]:
        trials = Simulation(simulated_space(), BUDGET, seed=seed).run()
        return [(trial.steps, trial.share) for trial in trials]

    assert tried(1) == tried(1)


def test_a_failed_trial_is_not_tried_again_and_ends_nothing() -> None:
    space = simulated_space(
        [step("static_quantization", 4.0, 2.5, 0.001), step("half_precision", 2.0, 1.0, 0.0)]
    )
    first = plan(space, BUDGET, [], Moment(0, 1), sample)[0]
    failed = Trial(0, first.steps, first.share, "failed", None, (3.0,))
    second = plan(space, BUDGET, [failed], Moment(3, 1), sample)[0]
    assert list(second.steps) != list(first.steps)
    after = [failed, Trial(1, second.steps, 1.0, "failed", None, (3.0,))]
    assert plan(space, BUDGET, after, Moment(6, 1), sample) == []
    assert best(BUDGET, after) is None


def test_when_nothing_keeps_the_limits_the_nearest_is_best() -> None:
    budget = BUDGET.model_copy(update={"max_bytes": 1000})
    found = best(budget, Simulation(simulated_space(), budget).run())
    assert found is not None
    assert found.measurements is not None
    assert excesses(budget, found.measurements)[0].limit == "max_bytes"


def tails(*scores: tuple[str, float], lost: float = 0.0) -> set[str]:
    """What other steps are tried before, when quantizations alone had these speeds, and lost so much but for
    the first.
    """
    made = simulated_space()
    own = {f.technique: f for f in made.families[Stage.PRECISION]}
    trials = []
    for number, (name, faster) in enumerate(scores):
        pipeline = made.pipeline([(own[name], None)])
        assert pipeline is not None
        trials.append(
            Trial(number, pipeline.steps, 1.0, "succeeded", measured(faster, 4.0, lost if number else 0.0))
        )
    pipelines = [pipeline.proposals for pipeline in first_round(made, BUDGET, trials)]
    cuts = [steps[1:] for steps in pipelines if steps[0].step.technique == "channel_pruning"]
    return {"+".join(each.step.technique for each in tail) for tail in cuts}


def test_the_quantization_that_others_precede_is_the_one_that_did_best() -> None:
    assert "static_quantization" in tails()
    assert "half_precision" in tails(("static_quantization", 0.8), ("half_precision", 1.1))
    assert tails(("static_quantization", 0.8), ("half_precision", 0.9)) == {""}


def test_of_two_that_do_as_well_others_precede_the_one_that_loses_less() -> None:
    assert "static_quantization" in tails(("static_quantization", 2.8), ("half_precision", 2.9), lost=0.005)


def test_no_trial_may_use_up_the_time_of_all_others() -> None:
    first, *_ = plan(simulated_space(), BUDGET, [], Moment(0, 1), sample)
    assert first.seconds == BUDGET.seconds
    trials = Simulation(simulated_space(), BUDGET).run(until=lambda known: len(known) == 4)
    known = [replace(trial, state="succeeded") for trial in trials if trial.measurements is not None]
    for elapsed in (200, 1150):
        for each in plan(simulated_space(), BUDGET, known, Moment(elapsed, 1), sample):
            own = max(0.15 * BUDGET.seconds, 3 * pace(known).seconds(each.steps, each.share))
            assert each.seconds == pytest.approx(min(own, BUDGET.seconds - elapsed))


def test_of_trials_that_are_as_good_as_equal_the_one_that_loses_least_is_chosen() -> None:
    def trial(number: int, faster: float, lost: float) -> Trial:
        return Trial(number, [{"technique": "x"}], 1.0, "succeeded", measured(faster, 4.0, lost))

    fastest, careful, slow = trial(0, 4.74, 0.008), trial(1, 4.70, 0.003), trial(2, 4.0, 0.0)
    assert best(BUDGET, [fastest, careful, slow]) == careful
    assert best(BUDGET, [fastest, slow]) == fastest
    broken, nearer = trial(3, 9.0, 0.03), trial(4, 2.0, 0.02)
    assert best(BUDGET, [broken, nearer]) == nearer
    assert best(BUDGET, []) is None
