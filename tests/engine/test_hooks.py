import pytest
import torch
from torch import nn

from detectron2.engine import TrainerBase
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter
from tsdd_d2.engine.hooks import ResumableWriter, WeightAveraging, decay_at


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
    steps(averaging, [9.0])  # the third step of the run: decay_at(2, 0.5) = 3 / 12
    assert averaging.averaged.weight.item() == pytest.approx(0.25 * 5 + 0.75 * 9)
    state = averaging.state_dict()
    again = WeightAveraging(nn.Linear(1, 1, bias=False), decay=0.5, burn_in=2, predicts=False)
    again.model.load_state_dict(model.state_dict())  # the checkpoint's "model"
    again.load_state_dict(state)
    again.before_train()
    assert torch.equal(again.averaged.weight, averaging.averaged.weight)


class Counting(TrainerBase):
    """Its loss is the square of the iteration; in iteration 2 there is an evaluation."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.saved = folder, None
        self.writer = ResumableWriter(str(folder))
        self.register_hooks([self.writer])

    def build_writers(self):
        writers = JSONWriter(str(self.folder / "metrics.json")), TensorboardXWriter(str(self.folder))
        return [CommonMetricPrinter(), *writers]

    def run_step(self):
        self.storage.put_scalar("loss", self.iter**2)
        if self.iter == 2:
            self.storage.put_scalar("AUC", 0.75, smoothing_hint=False)
        if self.iter == self.saved:
            raise KeyboardInterrupt


@pytest.mark.parametrize("first, killed", [(None, 25), (4, 9), (4, 25), (20, 30)])
def test_a_resumed_run_writes_the_metrics_of_an_uninterrupted_one(tmp_path, first, killed):
    """Also an evaluation that was not written yet, and medians over steps of before; what is done again stands there once."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    Counting(tmp_path / "whole").train(0, 45)
    state = None
    trainer = Counting(tmp_path / "killed")
    step = trainer.after_step

    def after_step():
        nonlocal state
        step()
        if trainer.iter == first:
            state = torch.load(_saved(trainer.writer.state_dict(), tmp_path), weights_only=True)

    trainer.after_step, trainer.saved = after_step, killed
    with pytest.raises(KeyboardInterrupt):
        trainer.train(0, 45)
    resumed = Counting(tmp_path / "killed")
    if state is not None:
        resumed.writer.load_state_dict(state)
    resumed.train(0 if first is None else first + 1, 45)
    assert (tmp_path / "killed" / "metrics.json").read_text() == (tmp_path / "whole" / "metrics.json").read_text()


def _saved(state, folder):
    torch.save(state, folder / "state.pth")
    return folder / "state.pth"
