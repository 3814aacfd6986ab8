"""What a search takes beside training: starting, normalization, choosing and noting trials, and the result.

    python benchmarks/search.py [--trials 3] [--data FOLDER] [--params params.yaml]

Does a search as ``fxnorm search`` does it, in this process, on demo songs with the settings of ``params.yaml``, and
measures what is done once, and what each trial takes beside its training loop. Of these follows the share of a search
of 12 trials. Nothing is pruned.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TARGET_SHARE = 0.05
TRIALS = 12


class Clock:
    """How long functions took, all calls together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def measuring(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*arguments: Any, **named: Any) -> Any:
            start = time.monotonic()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.monotonic() - start

        return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--data", type=Path, help="a folder as 'fxnorm demo-data' makes it; else one is made")
    parser.add_argument("--params", type=Path, default=Path(__file__).parents[1] / "params.yaml")
    options = parser.parse_args()
    began = time.monotonic() - time.process_time()  # what Python itself took to start

    from fxnorm.demo import render_dataset
    from fxnorm.search import run
    from fxnorm.search.params_file import Base
    from fxnorm.search.prepared import Songs
    from fxnorm.search.space import Space
    from fxnorm.search.trials import Work
    from fxnorm.settings import Settings
    from fxnorm.stages import train

    training, normalization, trials = Clock(), Clock(), Clock()
    train.loop.train = training.measuring(train.loop.train)
    Songs.normalized = normalization.measuring(Songs.normalized)  # type: ignore[method-assign]
    Work.one = trials.measuring(Work.one)  # type: ignore[method-assign]
    space = Space.of(
        {
            "trials": options.trials,
            "pruner": {"name": "none"},
            "space": {
                "train.schedule.0.learning_rate": {"low": 3.0e-4, "high": 3.0e-3, "log": True},
                "train.weight_decay": {"low": 1.0e-8, "high": 1.0e-5, "log": True},
            },
        }
    )
    params = options.params.absolute()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        data = work / "data" if options.data is None else options.data.absolute()
        rendering = Clock()
        if options.data is None:
            rendering.measuring(render_dataset)(data)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work / 'mlflow.db'}"
        os.chdir(work)
        base = Base(Settings.load(params), text=params.read_text(encoding="utf-8"))
        space.check(base.settings, "space")
        songs = Songs.of(data, base.settings, [*space.space])
        run.run(run.Plan(space, base, songs, work / "search/benchmark"))
        total = time.monotonic() - began - rendering.seconds
    beside = (trials.seconds - training.seconds - normalization.seconds) / options.trials
    once, one = total - trials.seconds + normalization.seconds, training.seconds / options.trials
    print(f"{options.trials} trials in {total:.1f} s; a training loop takes {one:.1f} s")
    print(f"once: {once:.1f} s, of them normalization {normalization.seconds:.1f} s; beside each loop: {beside:.2f} s")
    share = (once + TRIALS * beside) / (once + TRIALS * (beside + one))
    print(f"anything but training of {TRIALS} trials: {100 * share:.2f} % (target: at most {100 * TARGET_SHARE:.0f} %)")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    assert share <= TARGET_SHARE


if __name__ == "__main__":
    main()
