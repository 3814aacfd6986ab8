"""The components. Settings are sections of ``params.yaml``; shards are texts like ``2/4``.

A task gets only the sections that it works by: what it is given decides whether an earlier result is taken over. To
that end it is given a digest of its code too, by the image itself: one that is built anew often keeps its name.
"""

import functools
from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Markdown, Metrics, Model, Output

IMAGE = "localhost/fxnorm-automix:0.1.0"
"""What ``make image`` builds; ``pipeline.cluster.Cluster.image`` is the name under which a cluster finds it."""

# the image has kfp; nothing is installed when a component starts
_component = functools.partial(dsl.component, base_image=IMAGE, install_kfp_package=False)


@_component()
def resolve(repository: str, revision: str) -> NamedTuple(  # type: ignore[valid-type]  # as kfp names outputs
    "Resolved",
    [
        ("commit", str),
        ("fetching", str),
        ("checking", str),
        ("measuring", str),
        ("normalizing", str),
        ("training", str),
    ],
):
    """The commit that a branch, tag or commit stands for now, and digests of the code that is in the image now."""
    from fxnorm.data.versions import made_by
    from fxnorm.stages import fetch

    commit = fetch.resolve(repository, revision)
    fetching = made_by("fxnorm.stages.fetch", "fxnorm.data.dataset")
    checking = made_by("fxnorm.stages.check")
    measuring, normalizing = made_by("fxnorm.stages.statistics"), made_by("fxnorm.stages.normalize")
    return commit, fetching, checking, measuring, normalizing, made_by("fxnorm.stages.train")


@_component()
def list_songs(repository: str, commit: str, path: str, remote: str, code: str, listing: Output[Dataset]) -> None:
    """List the songs of a commit and the hashes of their files, by DVC's own list alone."""
    from pathlib import Path

    from fxnorm.stages import fetch

    listed = fetch.list_songs(repository, commit, path, remote)
    listed.save(Path(listing.path) / fetch.LISTING_FILE)
    listing.metadata.update(repository=repository, commit=commit, dvc=listed.hash)


@_component()
def divide(
    listing: Input[Dataset],
    stage: str,
    shards: int,
    check_settings: dict,
    statistics_settings: dict,
    normalize_settings: dict,
    evaluate_settings: dict,
    tested: bool,
    code: str,
) -> list[str]:
    """Give the names of a stage's shards; for the first one, fail where any stage would not find what it needs."""
    from pathlib import Path

    from fxnorm.data.listing import Listing
    from fxnorm.settings import Settings
    from fxnorm.stages import fetch

    settings = Settings.of({
        "check": check_settings,
        "statistics": statistics_settings,
        "normalize": normalize_settings,
        "evaluate": evaluate_settings,
    })  # fmt: skip
    listed = Listing.load(Path(listing.path) / fetch.LISTING_FILE)
    if stage == "check":
        fetch.refuse_unfit(listed, settings, tested)
    return fetch.divide(listed, settings, stage, shards)


@_component()
def check(listing: Input[Dataset], shard: str, settings: dict, code: str, part: Output[Dataset]) -> None:
    """Look in a shard of the wet songs for what would spoil a training."""
    from pathlib import Path

    from fxnorm.data.dataset import parse_shard
    from fxnorm.data.listing import Listing
    from fxnorm.settings import Settings
    from fxnorm.stages import check, fetch

    check_settings = Settings.of({"check": settings}).check
    listed = Listing.load(Path(listing.path) / fetch.LISTING_FILE)
    with fetch.songs(listed, {"wet": check_settings.splits}, parse_shard(shard)) as data:
        check.run_part(check_settings, data / "wet", Path(part.path) / check.PART_FILE)


@_component()
def merge_checks(
    listing: Input[Dataset],
    parts: Input[list[Dataset]],
    settings: dict,
    code: str,
    findings: Output[Dataset],
    report: Output[HTML],
) -> None:
    """Put the findings together, with what shows when songs are compared; a failed task's page would be lost."""
    from pathlib import Path

    from fxnorm.data.listing import Listing
    from fxnorm.settings import Settings
    from fxnorm.stages import check, fetch

    folder, page = Path(findings.path), Path(report.path)
    wet = Listing.load(Path(listing.path) / fetch.LISTING_FILE).layout("wet")
    files = [Path(part.path) / check.PART_FILE for part in parts]
    check_settings = Settings.of({"check": settings}).check
    found = check.merge(check_settings, wet, files, folder / "findings.json", folder / "report.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_bytes((folder / "report.html").read_bytes())
    findings.metadata["found"] = found.summary()


@_component()
def stop_at_findings(findings: Input[Dataset]) -> None:
    """Fail where the check found what has to stop the pipeline."""
    from pathlib import Path

    from fxnorm.stages import check

    check.refuse_failed(Path(findings.path) / "findings.json")


@_component()
def statistics(listing: Input[Dataset], shard: str, settings: dict, code: str, part: Output[Dataset]) -> None:
    """Measure the average effects of a shard of the wet training songs."""
    from pathlib import Path

    from fxnorm.data.dataset import parse_shard
    from fxnorm.data.listing import Listing
    from fxnorm.settings import Settings
    from fxnorm.stages import fetch, statistics

    measure = Settings.of({"statistics": settings}).statistics
    listed = Listing.load(Path(listing.path) / fetch.LISTING_FILE)
    with fetch.songs(listed, {"wet": [measure.split]}, parse_shard(shard)) as data:
        statistics.run(measure, data / "wet", Path(part.path) / "statistics.npz", part=True)


@_component()
def merge_statistics(parts: Input[list[Dataset]], code: str, statistics: Output[Dataset]) -> None:
    """Put the statistics of all shards together."""
    from pathlib import Path

    from fxnorm.stages import statistics as stage

    folder = Path(statistics.path)
    plot = folder / "plots/statistics.png"
    stage.merge([Path(part.path) / "statistics.npz" for part in parts], folder / "statistics.npz", plot)


@_component()
def normalize(
    listing: Input[Dataset],
    statistics: Input[Dataset],
    shard: str,
    settings: dict,
    store: str,
    code: str,
    normalized: Output[Dataset],
) -> None:
    """Bring the stems of a shard of the wet songs to the average effects; their audio goes to the store, if one is."""
    from pathlib import Path

    from fxnorm.data.dataset import parse_shard
    from fxnorm.data.listing import Listing
    from fxnorm.effects.impulse_responses import folders_in
    from fxnorm.settings import Settings
    from fxnorm.stages import fetch, normalize

    work = Settings.of({"normalize": settings}).normalize
    listed = Listing.load(Path(listing.path) / fetch.LISTING_FILE)
    with fetch.songs(listed, {"wet": work.splits}, parse_shard(shard), for_normalization=True) as data:
        normalize.run(
            work,
            data / "wet",
            Path(statistics.path) / "statistics.npz",
            Path(normalized.path),
            *folders_in(data / "impulse_responses"),
            whole=listed.whole(work.splits),
        )
    if store:
        normalize.publish(Path(normalized.path), store)


@_component()
def pretrain(
    normalized: Input[list[Dataset]],
    statistics_settings: dict,
    normalize_settings: dict,
    pretraining_settings: dict,
    resources_settings: dict,
    processes: int,
    checkpoints: str,
    code: str,
    weights: Output[Model],
    metrics: Output[Metrics],
) -> None:
    """Train a front-end alone on the normalized songs of all shards, as a start for the training."""
    from pathlib import Path

    from fxnorm.io import folders
    from fxnorm.settings import Settings
    from fxnorm.stages import normalize
    from fxnorm.stages import train as stage

    sections = {
        "statistics": statistics_settings,
        "normalize": normalize_settings,
        "train": {"task": "front_end", **pretraining_settings},
        "resources": resources_settings,
    }
    with folders.task_folder() as work:
        normalize.gather([Path(part.path) for part in normalized], work / "normalized")
        best = stage.run_processes(
            Settings.of(sections),
            work / "normalized",
            Path(weights.path),
            checkpoints or str(work / "checkpoints"),
            work / "loss.csv",
            processes,
        )
    weights.framework = "pytorch"
    for name, value in best.items():
        metrics.log_metric(name, value)


@_component()
def train(
    normalized: Input[list[Dataset]],
    statistics: Input[Dataset],
    statistics_settings: dict,
    normalize_settings: dict,
    train_settings: dict,
    resources_settings: dict,
    processes: int,
    checkpoints: str,
    mixer: Output[Model],
    metrics: Output[Metrics],
    weights: Input[Model] = None,  # as kfp has optional artifacts
) -> None:
    """Train a network on the normalized songs of all shards; the result is a Mixer directory."""
    from pathlib import Path

    from fxnorm.io import folders
    from fxnorm.settings import Settings
    from fxnorm.stages import normalize
    from fxnorm.stages import train as stage
    from fxnorm.tracking import runs

    # those of the earlier stages are parameters of the experiment, too
    sections = {
        "statistics": statistics_settings,
        "normalize": normalize_settings,
        "train": train_settings if weights is None else {**train_settings, "initial_weights": weights.path},
        "resources": resources_settings,
    }
    with folders.task_folder() as work:
        normalize.gather([Path(part.path) for part in normalized], work / "normalized")
        best = stage.run_processes(
            Settings.of(sections),
            work / "normalized",
            Path(mixer.path),
            checkpoints or str(work / "checkpoints"),
            work / "loss.csv",
            processes,
            Path(statistics.path) / "plots",
        )
    runs.pack(Path(mixer.path))
    mixer.framework = "pytorch"
    for name, value in best.items():
        metrics.log_metric(name, value)


@_component()
def evaluate(
    mixer: Input[Model],
    listing: Input[Dataset],
    statistics_settings: dict,
    normalize_settings: dict,
    train_settings: dict,
    evaluate_settings: dict,
    register_settings: dict,
    run: str,
    report: Output[Dataset],
    metrics: Output[Metrics],
    summary: Output[Markdown],
) -> bool:
    """Compare the network's mixes of the test songs with the reference mixes; gives whether it may be registered."""
    import os
    from pathlib import Path

    from fxnorm.data.listing import Listing
    from fxnorm.evaluation.report import markdown
    from fxnorm.evaluation.results import flat, read_metrics
    from fxnorm.settings import Settings
    from fxnorm.stages import evaluate, fetch, register
    from fxnorm.tracking import kubeflow_runs

    os.environ[kubeflow_runs.VARIABLE] = run
    settings = Settings.of({
        "statistics": statistics_settings,
        "normalize": normalize_settings,
        "train": train_settings,
        "evaluate": evaluate_settings,
        "register": register_settings,
    })  # fmt: skip
    listed = Listing.load(Path(listing.path) / fetch.LISTING_FILE)
    with fetch.songs(listed, {dataset: [settings.evaluate.split] for dataset in listed.layouts}) as data:
        verdicts = evaluate.run(settings, Path(mixer.path), data, Path(report.path))
    values = read_metrics(Path(report.path))
    for name, value in flat(values).items():
        metrics.log_metric(name, value)
    Path(summary.path).write_text(markdown(values, verdicts), encoding="utf-8")
    return register.passes(settings, Path(mixer.path), Path(report.path))


@_component()
def register(
    mixer: Input[Model],
    report: Input[Dataset],
    listing: Input[Dataset],
    evaluate_settings: dict,
    register_settings: dict,
) -> str:
    """Register the Mixer in MLflow; gives the version. A champion of other songs is measured on the candidate's."""
    import functools
    from pathlib import Path

    from fxnorm.data.listing import Listing
    from fxnorm.settings import Settings
    from fxnorm.stages import fetch, register

    settings = Settings.of({"evaluate": evaluate_settings, "register": register_settings})
    listed = Listing.load(Path(listing.path) / fetch.LISTING_FILE)
    tested = {settings.register_.split.removeprefix("test_"): [settings.evaluate.split]}
    data = functools.partial(fetch.songs, listed, tested)  # most champions need none of them
    return register.run(settings, Path(mixer.path), Path(report.path), data, once=True)["version"]


@_component()
def list_sessions(mixer: str, sessions: str, shards: int, model: Output[Model], listing: Output[Dataset]) -> list[str]:
    """Find the sessions below a place, and bring the Mixer: all shards have the same; gives the shards' names."""
    import shutil
    from pathlib import Path

    from fxnorm.stages import mix_all

    found = mix_all.Listing.of(sessions)
    found.save(Path(listing.path) / "sessions.json")
    with mix_all.mixer_directory(mixer) as folder:
        mix_all.refuse_broken(folder)
        shutil.copytree(folder, model.path, dirs_exist_ok=True)
    model.framework = "pytorch"
    count = max(1, min(shards, len(found.found()[0])))
    return [f"{number}/{count}" for number in range(1, count + 1)]


@_component()
def mix_sessions(
    model: Input[Model], listing: Input[Dataset], shard: str, mixer: str, output: str, options: dict, parts: bool
) -> int:
    """Mix a shard of the sessions; gives how many could not be mixed."""
    from pathlib import Path

    from fxnorm.data.dataset import parse_shard
    from fxnorm.mixing.options import MixOptions
    from fxnorm.stages import mix_all

    found = mix_all.Listing.load(Path(listing.path) / "sessions.json")
    summary = mix_all.run(
        Path(model.path), found, output, MixOptions.of(options), mixer_name=mixer, parts=parts, shard=parse_shard(shard)
    )
    return len(summary.failed)


@_component()
def finish_mixes(
    model: Input[Model],
    listing: Input[Dataset],
    failed: list,
    mixer: str,
    output: str,
    options: dict,
    parts: bool,
    page: Output[HTML],
) -> int:
    """Write the table and the page of all shards' mixes; gives how many sessions could not be mixed."""
    from pathlib import Path

    from fxnorm.mixing.options import MixOptions
    from fxnorm.stages import mix_all

    found = mix_all.Listing.load(Path(listing.path) / "sessions.json")
    target = Path(page.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return len(mix_all.finish(Path(model.path), found, output, MixOptions.of(options), mixer, parts, target).failed)


@_component()
def stop_at_failures(failed: int, most_failed: int, output: str) -> None:
    """Fail where more sessions could not be mixed than may be."""
    from fxnorm.errors import DatasetError

    if failed > most_failed:
        raise DatasetError(f"{output}: {failed} sessions not mixed, at most {most_failed} may; mixes.csv lists them")


@_component()
def begin_search(
    normalized: Input[list[Dataset]],
    space: str,
    statistics_settings: dict,
    normalize_settings: dict,
    train_settings: dict,
    resources_settings: dict,
    output: str,
    name: str,
    storage: str,
    songs: Output[Dataset],
) -> list[str]:
    """Make the study of a search, or go on with it; gives a name for each trial that is to be done."""
    from pathlib import Path

    from fxnorm.search import tasks
    from fxnorm.stages import normalize

    normalize.merge([Path(part.path) for part in normalized], Path(songs.path))
    sections = {
        "statistics": statistics_settings,
        "normalize": normalize_settings,
        "train": train_settings,
        "resources": resources_settings,
    }
    with tasks.planned(space, sections, Path(songs.path), output, name, storage) as plan:
        return tasks.begin(plan)


@_component()
def search_trial(
    songs: Input[Dataset],
    space: str,
    statistics_settings: dict,
    normalize_settings: dict,
    train_settings: dict,
    resources_settings: dict,
    output: str,
    name: str,
    storage: str,
    trial: str,
    run: str,
    metrics: Output[Metrics],
) -> int:
    """Do the next trial of a search: one that was left, or a new one. A task that is started anew goes on with its.

    Gives the trial's number, -1 if there was none to do.
    """
    import math
    from pathlib import Path

    from fxnorm.io import folders
    from fxnorm.search import tasks

    sections = {
        "statistics": statistics_settings,
        "normalize": normalize_settings,
        "train": train_settings,
        "resources": resources_settings,
    }
    with (
        folders.task_folder(),
        tasks.planned(space, sections, Path(songs.path), output, name, storage, slot=f"{run}/{trial}") as plan,
    ):
        number, loss = tasks.one(plan)
    if math.isfinite(loss):
        metrics.log_metric("validation.best_loss", loss)
    return number


@_component()
def collect_search(
    songs: Input[Dataset],
    done: list,
    space: str,
    statistics_settings: dict,
    normalize_settings: dict,
    train_settings: dict,
    resources_settings: dict,
    output: str,
    name: str,
    storage: str,
    mixer: Output[Model],
    settings: Output[Dataset],
    metrics: Output[Metrics],
    table: Output[Markdown],
) -> None:
    """Bring the best trial's Mixer, its settings, and a table of the best trials."""
    import shutil
    from pathlib import Path

    from fxnorm.search import tasks

    sections = {
        "statistics": statistics_settings,
        "normalize": normalize_settings,
        "train": train_settings,
        "resources": resources_settings,
    }
    with tasks.planned(space, sections, Path(songs.path), output, name, storage) as plan:
        found = tasks.collect(plan)
        shutil.copytree(plan.output / "mixer", mixer.path, dirs_exist_ok=True)
        Path(settings.path).mkdir(parents=True, exist_ok=True)
        for file in ("best.yaml", "best.diff", "trials.csv"):
            shutil.copy(plan.output / file, settings.path)
    mixer.framework = "pytorch"
    metrics.log_metric("validation.best_loss", found.value)
    Path(table.path).write_text(found.markdown, encoding="utf-8")


@_component()
def announce(pipeline: str, run: str, kubeflow: str, mlflow: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Tell a chat how the run ended and where its report is."""
    from fxnorm.stages import announce

    announce.run(announce.Ending(pipeline, run, status.state, status.error_message or ""), kubeflow, mlflow)
