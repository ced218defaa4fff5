"""The runs of an experiment in the order that their first stages ask for; a failure stops only those that need it."""

import functools
from graphlib import TopologicalSorter
from typing import Callable, Dict, List, Sequence

from .executors import Executor
from .plan import Run
from .training import Outcome


def execute(
    runs: Sequence[Run],
    function: Callable[..., Outcome],
    executor: Executor,
    ended: Callable[[Run, Outcome], None],
    after_needs: bool = True,
) -> Dict[Run, Outcome]:
    """
    Calls a function for each of the runs on an executor, in their order as far as their needs and its slots allow. What
    another process works on comes last, so that two machines share an experiment.

    Args:
        function: of a run and ``wait``, whether to wait for another process that works on it, as :func:`train_run`; can be
            pickled.
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
    taken: List[Run] = []
    handles = {}

    def end(run: Run, outcome: Outcome) -> None:
        outcomes[run] = outcome
        ended(run, outcome)
        sorter.done(run)

    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=order.get)
        wait = not ready
        if wait:
            ready, taken = taken, []
        while ready and (executor.slots is None or len(handles) < executor.slots):
            run = ready.pop(0)
            if after_needs and run.needs in outcomes and outcomes[run.needs].error is not None:
                end(run, Outcome(f"{run.needs.id}, which it needs, is not finished"))
            else:
                handles[executor.submit(functools.partial(function, wait=wait), run)] = run
        if handles:
            for handle, result in executor.wait(list(handles)):
                run = handles.pop(handle)
                if not isinstance(result, Outcome):
                    end(run, Outcome(f"{type(result).__name__}: {result}"))
                elif result.taken:
                    taken.append(run)
                else:
                    end(run, result)
    return outcomes
