"""Small hooks of the trainers."""

import os
from typing import Any, Dict, List, Optional

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from detectron2.engine import HookBase, hooks
from detectron2.utils.events import EventWriter

from ..data.files import named_errors


class WeightAveraging(HookBase):
    """Keeps an exponential moving average of a network's weights, a "mean teacher" (arXiv:1703.01780).

    The average of the last steps predicts better than any of them while the learning rate is high, which is when the
    rounds of candidate selection run. A loss may ask it for pseudo-labels.

    A checkpoint holds the one that predicts as its "model"; the weights of the other are a part of this hook's state.
    """

    def __init__(self, model: nn.Module, decay: float, *, burn_in: int = 0, predicts: bool = True):
        """
        Args:
            model: what is trained (not its DDP wrapper).
            decay: of the average for each step; the first steps count less, see :func:`decay_at`.
            burn_in: steps in which the average is a copy of what is trained.
            predicts: whether the average, or what is trained, is evaluated and makes the "model" of the checkpoints.
        """
        self.model = model
        self.decay = decay
        self.burn_in = burn_in
        self.predicts = predicts
        # the statistics of batch normalisation belong to the weights
        self._average = AveragedModel(model, multi_avg_fn=self._update, use_buffers=True)

    @property
    def averaged(self) -> nn.Module:
        """The network with the averaged weights."""
        return self._average.module

    @property
    def predicting(self) -> nn.Module:
        """The network that is evaluated."""
        return self.averaged if self.predicts else self.model

    @property
    def other(self) -> nn.Module:
        return self.model if self.predicts else self.averaged

    def _update(self, averaged, current, num_averaged: torch.Tensor) -> None:
        # counted from the start of the run: after a burn-in the average would otherwise forget what it has copied
        decay = decay_at(int(num_averaged), self.decay) if num_averaged >= self.burn_in else 0.0
        get_ema_multi_avg_fn(decay)(averaged, current, num_averaged)

    def begin_if_new(self):
        """After a checkpoint was loaded: where it comes from a run without average, training goes on from its weights."""
        if self._average.n_averaged == 0:
            self.other.load_state_dict(self.predicting.state_dict())

    def before_train(self):
        if self._average.n_averaged == 0:  # initial weights were loaded after the average was built
            self.averaged.load_state_dict(self.model.state_dict())

    def after_step(self):
        self._average.update_parameters(self.model)

    def state_dict(self) -> Dict:
        return {self._key: self.other.state_dict(), "num_averaged": int(self._average.n_averaged)}

    @property
    def _key(self) -> str:
        return "training_weights" if self.predicts else "averaged_weights"

    def load_state_dict(self, state: Dict) -> None:
        self.other.load_state_dict(state[self._key])
        self._average.n_averaged.fill_(state["num_averaged"])


def decay_at(step: int, decay: float) -> float:
    """The decay of a running average after ``step`` steps: it forgets the random weights at the start quickly."""
    return min(decay, (1 + step) / (10 + step))


class ResumableBestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's hook forgets the best metric when a run resumes, and then overwrites the best weights."""

    def state_dict(self):
        return {"best_metric": self.best_metric, "best_iter": self.best_iter}

    def load_state_dict(self, state):
        self.best_metric, self.best_iter = state["best_metric"], state["best_iter"]


class ResumableWriter(hooks.PeriodicWriter):
    """Detectron2's hook forgets, when a run resumes, what was not written yet and what it smooths over, and leaves in
    ``metrics.json`` what is done a second time. It comes before the periodic checkpoint, which then holds its state."""

    FILE_NAME = "metrics.json"
    WINDOW = 20  # iterations, over which the writers smooth

    def __init__(self, folder: str):
        super().__init__([], period=20)
        self.path = os.path.join(folder, self.FILE_NAME)
        self._resumed: Optional[Dict[str, Any]] = None

    def before_train(self):
        kept = self._resumed["size"] if self._resumed else 0
        # of a checkpoint without this state the whole file stays
        if (
            (self._resumed or self.trainer.start_iter == 0)
            and os.path.isfile(self.path)
            and os.path.getsize(self.path) > kept
        ):
            os.truncate(self.path, kept)
        self._writers = self.trainer.build_writers()
        if self._resumed is None:
            return
        for name, (smoothed, values) in self._resumed["scalars"].items():
            for value, iteration in values:
                self.trainer.storage.put_scalar(name, value, smoothing_hint=smoothed, cur_iter=iteration)
        for writer in self._files():
            writer._last_write = self._resumed["last_write"]  # there is no other way to tell it

    def _files(self) -> List[EventWriter]:
        """The writers that know what they have written; the one that prints does not ask."""
        return [x for x in self._writers if isinstance(getattr(x, "_last_write", None), int)]

    def after_step(self):
        with named_errors(self.path):
            super().after_step()

    def after_train(self):
        with named_errors(self.path):
            super().after_train()

    def state_dict(self) -> Dict:
        if not self._writers:  # before a training
            return {}
        storage = self.trainer.storage
        return {
            "size": os.path.getsize(self.path),
            "last_write": max((x._last_write for x in self._files()), default=-1),
            "scalars": {
                name: (storage.smoothing_hints()[name], storage.history(name).values()[-self.WINDOW :])
                for name in storage.latest()
                if name != "time"  # IterationTimer leaves out the first steps of each start
            },
        }

    def load_state_dict(self, state: Dict) -> None:
        self._resumed = {
            "size": int(state["size"]),
            "last_write": int(state["last_write"]),
            "scalars": {
                str(name): (bool(smoothed), [(float(value), int(iteration)) for value, iteration in values])
                for name, (smoothed, values) in state["scalars"].items()
            },
        }


class WeightsBeforeRefinement(HookBase):
    """Keeps the weights as they are when round 1 begins, for the comparison before and after refinement."""

    FILE_NAME = "model_round_00"

    def __init__(self, checkpointer, iteration: int):
        """
        Args:
            checkpointer: saves weights only, and does not tag them as the last checkpoint.
            iteration: the iteration before which round 1 runs.
        """
        self.checkpointer = checkpointer
        self.iteration = iteration

    def before_step(self):
        if self.trainer.iter == self.iteration:
            self.checkpointer.save(self.FILE_NAME)
