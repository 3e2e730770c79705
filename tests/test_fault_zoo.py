"""The fault zoo cannot rot: its models learn, its faults are real, its judge is strict, and a fixed slice is found (G3, G4, G8)."""

import pytest
import torch
from torch import nn

from benchmarks.zoo.architectures import ARCHITECTURES
from benchmarks.zoo.cases import ask, cases, laboratory, planted, run
from benchmarks.zoo.controls import CONTROLS
from benchmarks.zoo.judge import Answer, judge, victims
from benchmarks.zoo.planting import FAULTS, Planted
from benchmarks.zoo.rules import sagemaker
from benchmarks.zoo.specimen import loss_now, train


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


KINDS = (
    *("unreached", "detached", "dead_relu", "saturated", "zero_weight", "zero_path", "nonfinite_weight"),
    *("nonfinite_activation", "nonfinite_gradient", "vanishing", "exploding", "unused_rows", "invariant"),
    *("symmetric_units", "duplicate_units", "scale_low", "scale_high", "rank_collapse", "zero_norm_scale"),
    *("not_a_parameter", "shape_broken", "optimizer_stale", "optimizer_missing"),
)


def case(kind, architecture, plan=0):
    return cases(kind, architecture)[plan]


def test_the_zoo_has_every_kind_and_as_many_models_as_it_promises():
    assert {fault.kind for fault in FAULTS} == set(KINDS)
    assert len(ARCHITECTURES) >= 12
    assert len(CONTROLS) >= 60
    assert len({control.title for control in CONTROLS}) == len(CONTROLS)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_healthy_twin_learns_and_is_the_same_each_time(name):
    losses = []
    for _ in range(2):
        specimen = ARCHITECTURES[name](0)
        losses.append([loss_now(specimen)])
        train(specimen, 30)
        losses[-1].append(loss_now(specimen))
    assert losses[0] == losses[1]
    assert losses[0][1] < 0.85 * losses[0][0]


HURTING = [kind for kind in KINDS[:11] if kind != "unreached"]


@pytest.mark.parametrize("kind", HURTING)
def test_what_is_planted_shows_in_a_plain_backward(kind):
    """The truth of G4's kinds does not come from WeightLab."""
    for one in cases(kind, "mlp_relu") + cases(kind, "row_gru") + cases(kind, "resnet"):
        faulty, _, answer = planted(one)
        hurt = victims(faulty, ARCHITECTURES[one.architecture](0))
        infinite = not all(bool(held.isfinite().all()) for held in faulty.model.parameters())
        assert hurt or infinite, one.title  # minus infinity before a ReLU is 0 behind it, and hides
        assert answer.places


FOUND = [
    ("unreached", "gpt", 0), ("unreached", "unet", 1), ("detached", "vit", 0), ("detached", "siamese", 1), ("detached", "lstm", 2),
    ("dead_relu", "resnet", 0), ("dead_relu", "mlp_relu", 1), ("dead_relu", "vae", 2), ("saturated", "mlp_tanh", 0),
    ("saturated", "gru", 0), ("zero_weight", "mlp_relu", 0), ("zero_weight", "encoder", 2), ("zero_path", "cnn", 0),
    ("zero_path", "mlp_gelu_dropout", 2), ("nonfinite_weight", "gru", 0), ("nonfinite_weight", "unet", 2),
    ("nonfinite_activation", "encoder", 0), ("nonfinite_activation", "autoencoder", 0), ("nonfinite_gradient", "recommender", 0),
    ("vanishing", "deep_tanh", 1), ("vanishing", "row_gru", 0), ("exploding", "lstm", 0), ("unused_rows", "lstm", 0),
    ("invariant", "mobile", 0), ("symmetric_units", "temporal", 0), ("symmetric_units", "vit", 1), ("duplicate_units", "prelu", 1),
    ("scale_low", "mixture", 0), ("scale_high", "deep_relu", 1), ("rank_collapse", "unet", 0), ("zero_norm_scale", "graph", 0),
    ("not_a_parameter", "elman", 0), ("not_a_parameter", "gpt", 1), ("shape_broken", "cnn", 0), ("shape_broken", "gated", 1),
    ("optimizer_stale", "translate", 0), ("optimizer_missing", "critic", 0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "architecture", "plan"), FOUND)
def test_a_planted_fault_is_found_where_it_is(kind, architecture, plan):
    """G3, G4: kind and place."""
    outcome = run(case(kind, architecture, plan), repair=False, rivals=False)
    assert not outcome.error
    assert outcome.verdict.place, "\n".join(map(str, outcome.found))
    assert not outcome.verdict.false, "\n".join(map(str, outcome.verdict.false))


MENDED = [
    ("dead_relu", "mlp_relu", 0), ("saturated", "mlp_tanh", 0), ("zero_weight", "siamese", 1), ("nonfinite_weight", "prelu", 0),
    ("vanishing", "deep_tanh", 0), ("symmetric_units", "mlp_tanh", 0), ("scale_low", "mlp_relu", 1),
    ("zero_norm_scale", "graph", 0), ("not_a_parameter", "mlp_relu", 1), ("shape_broken", "autoencoder", 0),
    ("optimizer_stale", "vae", 2), ("optimizer_missing", "unet", 1),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "architecture", "plan"), MENDED)
def test_a_repair_lets_a_model_learn_that_would_not(kind, architecture, plan):
    """G9."""
    outcome = run(case(kind, architecture, plan), rivals=False)
    assert not outcome.harmless
    assert outcome.worked, (outcome.repaired, outcome.healthy, outcome.left)


def answer(kind, place, severity="warning", affects=("a.weight",)):
    return Answer(kind, (place,), affects, severity, "")


def test_the_judge_wants_the_kind_at_the_place_and_above_info():
    planted_there = Planted(("a", "a.weight"))
    right = judge("dead_relu", planted_there, [answer("dead_relu", "a")], set())
    assert (right.kind, right.place, right.right, right.false) == (True, True, 1, [])
    elsewhere = judge("scale_low", planted_there, [answer("scale_low", "b")], set())
    assert (elsewhere.kind, elsewhere.place, len(elsewhere.false)) == (True, False, 1)
    quiet = judge("dead_relu", planted_there, [answer("dead_relu", "a", "info")], set())
    assert (quiet.kind, quiet.place, quiet.false) == (False, False, [])
    other = judge("dead_relu", planted_there, [answer("rank_collapse", "a")], set())
    assert (other.kind, len(other.false)) == (False, 1)


def test_the_judge_excuses_only_what_follows_from_the_fault():
    there = Planted(("a",), lawful=("saturated",))
    found = [answer("optimizer_missing", "z"), answer("saturated", "b"), answer("vanishing", "a")]
    verdict = judge("not_a_parameter", there, found, set())
    assert [one.kind for one in verdict.false] == ["vanishing"]
    general = judge("dead_relu", there, [answer("zero_path", "a"), answer("zero_path", "b")], set())
    assert [one.places for one in general.false] == [("b",)]


def test_a_finding_at_the_model_itself_counts_only_for_what_is_affected():
    there = Planted(("",))
    assert judge("detached", there, [answer("detached", "")], {"a.weight"}).place
    assert not judge("detached", there, [answer("detached", "")], {"b.weight"}).place
    assert not judge("detached", there, [answer("detached", "", affects=())], {"a.weight"}).place
    assert not judge("detached", Planted(("b",)), [answer("detached", "")], {"a.weight"}).place


def test_the_rules_of_others_fire_at_their_thresholds():
    specimen = ARCHITECTURES["mlp_relu"](0)
    assert not {rule for rule, _ in sagemaker(specimen)} & {
        "DeadRelu",
        "ExplodingTensor",
        "AllZero",
        "VanishingGradient",
    }
    with torch.no_grad():
        specimen.model.layers[1].bias[:24] = -50  # 24 of 40 units
    assert ("DeadRelu", "acts.1") in sagemaker(specimen)
    with torch.no_grad():
        specimen.model.layers[1].bias[:21] = 50  # 3 of 40: not more than half
    assert ("DeadRelu", "acts.1") not in sagemaker(specimen)
    with torch.no_grad():
        specimen.model.layers[0].weight[0, 0] = float("inf")
    assert ("ExplodingTensor", "layers.0.weight") in sagemaker(specimen)
    specimen = ARCHITECTURES["mlp_tanh"](0)
    nn.init.constant_(specimen.model.layers[1].bias, 9.0)
    assert ("SaturatedActivation", "acts.1") not in sagemaker(specimen)
    nn.init.constant_(specimen.model.layers[1].bias, 19.0)
    assert ("SaturatedActivation", "acts.1") in sagemaker(specimen)


QUIET = (
    *("resnet, seed 0", "gpt, seed 0", "encoder, after 60 steps", "zero head, cnn", "LayerScale 1e-4, gpt"),
    *(
        "LoRA with its second factor at 0, gpt",
        "He normal, mlp_relu",
        "small policy head, mlp_tanh",
        "bfloat16, mlp_relu",
    ),
    *("open forget gates, lstm", "zero-initialised last norms, resnet", "He normal, siamese", "weight_norm, mlp_relu"),
)


@pytest.mark.parametrize("title", QUIET)
def test_a_healthy_model_gives_nothing_above_info(title):
    """G8."""
    specimen = next(control for control in CONTROLS if control.title == title).make()
    assert [str(one) for one in ask(laboratory(specimen)) if one.loud] == []
