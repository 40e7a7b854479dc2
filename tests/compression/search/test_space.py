import pytest

from compression.inspection import ModelInspection
from compression.recipe import Recipe, canonical
from compression.search.budget import Budget
from compression.search.opening import first_round
from compression.search.space import epochs, families, refusals, shortened, space
from compression.technique import REGISTRY, Stage
from tests.compression.search.simulated import DATA, MODEL, simulated_space, step

_KINDS = {
    "convolutional": MODEL,
    "dense": MODEL.model_copy(update={"operators": {"Gemm": 3, "Relu": 2}}),
    "encoder": MODEL.model_copy(
        update={"operators": {"MatMul": 48, "Softmax": 6, "LayerNormalization": 13, "Gather": 3}}
    ),
    "recurrent": MODEL.model_copy(update={"operators": {"LSTM": 2, "Gemm": 1}}),
}
each_kind = pytest.mark.parametrize("model", _KINDS.values(), ids=_KINDS)
each_technique = pytest.mark.parametrize("technique", REGISTRY)


@each_technique
@each_kind
def test_proposals_can_be_posted_and_promise_no_wonders(technique: str, model: ModelInspection) -> None:
    for proposal in REGISTRY[technique].proposals(model, DATA):
        assert proposal.step.technique == technique
        assert REGISTRY[technique].model_validate(canonical(proposal.step)) == proposal.step
        assert 0.2 < proposal.smaller < 50
        assert 0.2 < proposal.faster < 50
        assert -0.1 < proposal.drop < 0.5
        assert len(proposal.why) > 20


@each_kind
@pytest.mark.parametrize("objective", ["latency", "bytes", "download"])
def test_every_pipeline_of_the_first_round_may_run(model: ModelInspection, objective: str) -> None:
    made = space(model, DATA, Budget.model_validate({"objective": objective}))
    pipelines = list(first_round(made, Budget(), ()))
    assert pipelines
    for pipeline in pipelines:
        recipe = Recipe.model_validate({"steps": shortened(pipeline.steps, 0.1)})
        assert recipe.check(model, DATA) == []
        stages = [type(each).stage for each in recipe.steps]
        assert stages == sorted(set(stages))


def test_what_does_not_help_the_budget_is_left_out() -> None:
    fast = space(MODEL, DATA, Budget(objective="latency"))
    assert not fast.families[Stage.SPARSITY]
    assert space(MODEL, DATA, Budget(objective="download")).families[Stage.SPARSITY]
    assert not space(MODEL, DATA, Budget(objective="bytes")).families[Stage.SPARSITY]  # as large as before


def test_nothing_to_try_is_explained() -> None:
    nothing = MODEL.model_copy(update={"operators": {"Relu": 1}, "params": 0})
    assert space(nothing, DATA, Budget()).empty
    assert all(len(reason) > 20 for reason in refusals(nothing, DATA))


def test_strengths_of_one_technique_are_a_family() -> None:
    cuts = [step("channel_pruning", 1 / (1 - r), 1 / (1 - r), r / 100, ratio=r) for r in (0.3, 0.6, 0.9)]
    other = step("channel_pruning", 2.0, 2.0, 0.01, ratio=0.5, scope="uniform")
    (family, alone) = families([*cuts, other])
    assert (family.field, family.strengths, alone.field) == ("ratio", (0.3, 0.6, 0.9), None)
    between = family.at(0.45)
    assert canonical(between.step)["ratio"] == 0.45
    assert cuts[0].faster < between.faster < cuts[1].faster
    assert family.at(0.3) == cuts[0]


def test_a_share_of_the_training_is_done() -> None:
    steps = [
        canonical(proposal.step) for proposal in simulated_space().families[Stage.STRUCTURE][0].proposals
    ]
    assert epochs(shortened(steps, 0.25)) == pytest.approx(epochs(steps) / 4)
    untrained = {**steps[0], "training": None}
    assert shortened([untrained], 0.25) == [untrained]
