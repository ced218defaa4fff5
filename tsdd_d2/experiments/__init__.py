from .checks import check_plan
from .execution import execute
from .executors import EXECUTORS, Resources
from .methods import METHODS, PROFILES, Method, compared_methods, register_method
from .plan import (
    EXPERIMENTS,
    Experiment,
    Run,
    duration,
    existing_folds,
    expected_times,
    folds_of_runs,
    runs_to_train,
    shown_runs,
)
from .predictions import copy_predictions, read_predictions
from .training import Outcome, evaluate_run_on, train_run, training_environment
