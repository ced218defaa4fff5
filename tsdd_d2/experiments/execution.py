"""The runs of an experiment in the order that their first stages ask for; a failure stops only those that need it."""

import logging
import time
from graphlib import TopologicalSorter
from typing import Callable, Dict, List, Sequence, Set

from .executors import Executor
from .run import Run
from .training import Outcome, is_taken

logger = logging.getLogger(__name__)

# After so long it is looked again whether another process still works on a run.
POLL_SECONDS = 5.0


def execute(
    runs: Sequence[Run],
    function: Callable[[Run], Outcome],
    executor: Executor,
    ended: Callable[[Run, Outcome], None],
    after_needs: bool = True,
) -> Dict[Run, Outcome]:
    """
    Calls a function for each of the runs on an executor, in their order as far as their needs and its slots allow. A run
    that another process works on waits here, without a place on the executor, while the others go on: so two machines
    share an experiment.

    Args:
        function: of a run, as :func:`train_run`; can be pickled.
        ended: called, in this process, with each run that has ended.
        after_needs: a run comes after the one that it needs, and not at all where that one ends with an error.

    Returns:
        run -> what came of it.
    """
    order = {run: number for number, run in enumerate(runs)}
    sorter = TopologicalSorter({run: [run.needs] if after_needs and run.needs in order else [] for run in runs})
    sorter.prepare()
    outcomes: Dict[Run, Outcome] = {}
    ready: List[Run] = []
    waited_for: Set[Run] = set()
    handles = {}

    def end(run: Run, outcome: Outcome) -> None:
        outcomes[run] = outcome
        ended(run, outcome)
        sorter.done(run)

    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=order.get)
        taken: List[Run] = []
        while ready and (executor.slots is None or len(handles) < executor.slots):
            run = ready.pop(0)
            if after_needs and run.needs in outcomes and outcomes[run.needs].error is not None:
                end(run, Outcome(f"{run.needs.id}, which it needs, is not finished"))
            elif is_taken(run):
                taken.append(run)
            else:
                handles[executor.submit(function, run)] = run
        for run in taken:
            if run not in waited_for:
                logger.warning("Another process works on %s: its end is waited for.", run.id)
        waited_for.update(taken)
        ready += taken
        if handles:
            for handle, result in executor.wait(list(handles), POLL_SECONDS if taken else None):
                run = handles.pop(handle)
                if not isinstance(result, Outcome):
                    end(run, Outcome(f"{type(result).__name__}: {result}"))
                elif result.taken:  # between the look at it and its start
                    ready.append(run)
                else:
                    end(run, result)
        elif taken:
            time.sleep(POLL_SECONDS)
    return outcomes
