import pytest
import torch
from torch import nn

from tsdd_d2.engine.hooks import WeightAveraging, decay_at


def steps(averaging, weights):
    """Lets the hook see these values of the single weight, one for each step."""
    for weight in weights:
        averaging.model.weight.data.fill_(weight)
        averaging.after_step()


def hook(weight: float) -> WeightAveraging:
    model = nn.Linear(1, 1, bias=False)
    averaging = WeightAveraging(model, decay=0.5)
    model.weight.data.fill_(weight)
    averaging.before_train()
    return averaging


def test_the_first_steps_forget_the_start_quickly():
    assert [decay_at(step, 0.99) for step in (0, 8, 2000)] == pytest.approx([0.1, 0.5, 0.99])


def test_the_average_by_hand():
    averaging = hook(7.0)
    assert averaging.averaged.weight.item() == 7  # what was loaded predicts before the first step
    steps(averaging, [1.0, 2.0, 4.0])
    # the first step is taken whole; then decays of 2/11 and 3/12
    after_two = 2 / 11 * 1 + 9 / 11 * 2
    assert averaging.averaged.weight.item() == pytest.approx(0.25 * after_two + 0.75 * 4)


def test_an_interrupted_average_goes_on_as_it_was():
    whole, interrupted, resumed = hook(0.0), hook(0.0), hook(5.0)
    steps(whole, [1.0, 2.0, 3.0, 1.0])
    steps(interrupted, [1.0, 2.0])
    resumed.averaged.load_state_dict(interrupted.averaged.state_dict())  # the checkpoint's "model"
    resumed.load_state_dict(interrupted.state_dict())
    assert resumed.model.weight.item() == 2
    resumed.before_train()
    steps(resumed, [3.0, 1.0])
    assert torch.equal(resumed.averaged.weight, whole.averaged.weight)


def test_an_average_that_begins_with_a_checkpoint_starts_from_it():
    """Of a run without average: the checkpointer loads it into the averaged network and finds no state of the hook."""
    averaging = hook(0.0)
    averaging.averaged.load_state_dict({"weight": torch.tensor([[3.0]])})
    averaging.begin_if_new()
    averaging.before_train()
    assert averaging.model.weight.item() == averaging.averaged.weight.item() == 3


def test_statistics_of_batch_normalisation_are_averaged():
    model = nn.BatchNorm1d(1)
    averaging = WeightAveraging(model, decay=0.5)
    for mean in (1.0, 3.0):
        model.running_mean.fill_(mean)
        averaging.after_step()
    assert averaging.averaged.running_mean.item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 3)


def test_a_teacher_copies_the_student_until_the_burn_in_is_over():
    model = nn.Linear(1, 1, bias=False)
    averaging = WeightAveraging(model, decay=0.5, burn_in=2, predicts=False)
    averaging.before_train()
    assert averaging.predicting is model
    steps(averaging, [1.0, 5.0])
    assert averaging.averaged.weight.item() == 5
    steps(averaging, [9.0])  # decay_at(0, 0.5)
    assert averaging.averaged.weight.item() == pytest.approx(0.1 * 5 + 0.9 * 9)
    state = averaging.state_dict()
    again = WeightAveraging(nn.Linear(1, 1, bias=False), decay=0.5, burn_in=2, predicts=False)
    again.model.load_state_dict(model.state_dict())  # the checkpoint's "model"
    again.load_state_dict(state)
    again.before_train()
    assert torch.equal(again.averaged.weight, averaging.averaged.weight)
