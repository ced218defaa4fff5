"""Small hooks of the trainers."""

from detectron2.engine import HookBase, hooks


class ResumableBestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's hook forgets the best metric when a run resumes, and then overwrites the best weights."""

    def state_dict(self):
        return {"best_metric": self.best_metric, "best_iter": self.best_iter}

    def load_state_dict(self, state):
        self.best_metric, self.best_iter = state["best_metric"], state["best_iter"]


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
