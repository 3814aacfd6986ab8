"""What a search takes beside training: starting, normalization, choosing and noting trials, and the result.

    python benchmarks/search.py [--trials 3] [--data FOLDER] [--params params.yaml]

Does a search as ``fxnorm search`` does it, in this process, on demo songs with the settings of ``params.yaml``: the
time from the start of the process to its end, and how much of it was within training loops. Nothing is pruned.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

TARGET_SHARE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--data", type=Path, help="a folder as 'fxnorm demo-data' makes it; else one is made")
    parser.add_argument("--params", type=Path, default=Path(__file__).parents[1] / "params.yaml")
    options = parser.parse_args()
    began = time.time() - time.process_time()  # what Python itself took to start

    from fxnorm.demo import render_dataset
    from fxnorm.search import run
    from fxnorm.search.params_file import Base
    from fxnorm.search.prepared import Songs
    from fxnorm.search.space import Space
    from fxnorm.settings import Settings
    from fxnorm.stages import train

    training: list[float] = []
    train_loop = train.loop.train

    def measured(*arguments: Any, **named: Any) -> Any:
        start = time.time()
        try:
            return train_loop(*arguments, **named)
        finally:
            training.append(time.time() - start)

    train.loop.train = measured
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
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work / 'mlflow.db'}"
        os.chdir(work)
        data = options.data
        if data is None:
            rendering = time.time()
            data = work / "data"
            render_dataset(data)
            began += time.time() - rendering
        base = Base(Settings.load(options.params), text=options.params.read_text(encoding="utf-8"))
        songs = Songs.of(data, base.settings, [*space.space])
        run.run(run.Plan(space, base, songs, work / "search/benchmark"))
    total, learning = time.time() - began, sum(training)
    share = 1 - learning / total
    print(f"{options.trials} trials in {total:.1f} s, {learning:.1f} s of them in training loops")
    print(f"anything else: {total - learning:.1f} s, {100 * share:.2f} % (target: at most {100 * TARGET_SHARE:.0f} %)")
    print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    assert share <= TARGET_SHARE


if __name__ == "__main__":
    main()
