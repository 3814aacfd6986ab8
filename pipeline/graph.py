"""The pipeline: check, statistics and normalization over shards, training on a GPU node, evaluation, registry."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kfp import compiler, dsl
from kfp.dsl.base_component import BaseComponent

from fxnorm import components
from fxnorm.io.files import whole_file
from fxnorm.pipeline import batch, search
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.songs import prepared
from fxnorm.pipeline.tasks import announced, on_any_node, on_training_node

NAME = "fxnorm-automix"


def build(cluster: Cluster, pretraining: bool = False) -> BaseComponent:
    """The pipeline for a cluster; what it works on are its parameters.

    Args:
        cluster: where it runs.
        pretraining: a front-end is trained first. This is a pipeline of its own, because kfp cannot hand what a loop
            gave into a condition.
    """

    @dsl.pipeline(
        name=NAME, description="A mixing network from the finished multitracks of a git revision, to MLflow's registry."
    )
    def automix(
        repository: str,
        revision: str = "main",
        path: str = "data",
        remote: str = "",
        shards: int = 4,
        checkpoints: str = "",
        store: str = "",
        pretraining_settings: dict = {},  # noqa: B006  compiled, never called
        check_settings: dict = {},  # noqa: B006  compiled, never called
        statistics_settings: dict = {},  # noqa: B006
        normalize_settings: dict = {},  # noqa: B006
        train_settings: dict = {},  # noqa: B006
        resources_settings: dict = {},  # noqa: B006
        evaluate_settings: dict = {},  # noqa: B006
        register_settings: dict = {},  # noqa: B006
    ) -> None:
        """A mixing network from the finished multitracks of a git revision.

        Args:
            repository: address of a git repository with DVC.
            revision: branch, tag or commit.
            path: the tracked folder with ``wet``, ``dry`` and ``impulse_responses``.
            remote: name of the DVC remote; the repository's default one if empty.
            shards: parts that statistics and normalization are done in.
            checkpoints: ``s3://BUCKET/KEY``, from which training goes on when its node was taken away; without one it
                begins anew.
            store: ``s3://BUCKET/PREFIX``, or a folder that all tasks see, for normalized songs; artifacts of Kubeflow
                if empty.
            pretraining_settings: how a front-end is trained alone, as the section ``train`` has it; where the pipeline
                has a task for that.
            check_settings: a section of ``params.yaml``; what is left out has its default.
            statistics_settings: likewise.
            normalize_settings: likewise.
            train_settings: likewise.
            resources_settings: likewise.
            evaluate_settings: likewise.
            register_settings: likewise.
        """
        with announced(cluster, NAME):
            songs = prepared(
                cluster,
                repository,
                revision,
                path,
                remote,
                shards,
                check_settings,
                statistics_settings,
                normalize_settings,
                evaluate_settings,
                store,
            )
            begin = {}
            if pretraining:
                begun = components.pretrain(
                    normalized=dsl.Collected(songs.normalized),
                    statistics_settings=statistics_settings,
                    normalize_settings=normalize_settings,
                    pretraining_settings=pretraining_settings,
                    resources_settings=resources_settings,
                    processes=max(cluster.training.accelerators, 1),
                    checkpoints=checkpoints,
                    code=songs.training,
                )
                on_training_node(cluster, begun, cached=True)
                begin["weights"] = begun.outputs["weights"]
            trained = components.train(
                normalized=dsl.Collected(songs.normalized),
                statistics=songs.statistics,
                statistics_settings=statistics_settings,
                normalize_settings=normalize_settings,
                train_settings=train_settings,
                resources_settings=resources_settings,
                processes=max(cluster.training.accelerators, 1),
                checkpoints=checkpoints,
                **begin,
            )
            on_training_node(cluster, trained)
            evaluated = on_any_node(cluster, components.evaluate(
                mixer=trained.outputs["mixer"], listing=songs.listing,
                statistics_settings=statistics_settings, normalize_settings=normalize_settings,
                train_settings=train_settings, evaluate_settings=evaluate_settings, register_settings=register_settings,
                run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            ), cached=False)  # fmt: skip
            with dsl.If(evaluated.outputs["Output"] == True, name="accepted"):  # noqa: E712  kfp's own equality
                on_any_node(cluster, components.register(
                    mixer=trained.outputs["mixer"], report=evaluated.outputs["report"], listing=songs.listing,
                    evaluate_settings=evaluate_settings, register_settings=register_settings,
                ), cached=False)  # fmt: skip

    return automix


@dataclass(frozen=True)
class Pipeline:
    """One of the pipelines.

    Attributes:
        name: in Kubeflow.
        build: makes it for a cluster.
        file: where it lies compiled.
    """

    name: str
    build: Callable[[Cluster], BaseComponent]
    file: Path


PIPELINES = {
    "training": Pipeline(NAME, build, Path("pipeline/pipeline.yaml")),
    "pretraining": Pipeline(NAME, functools.partial(build, pretraining=True), Path("pipeline/pretraining.yaml")),
    "batch": Pipeline(batch.NAME, batch.build, Path("pipeline/batch.yaml")),
    "search": Pipeline(search.NAME, search.build, Path("pipeline/search.yaml")),
}
"""By the names that the command and parameters have for them."""


def compile_to(path: Path, cluster: Cluster, pipeline: str = "training") -> None:
    """Write a pipeline for a cluster as YAML, whole or not at all."""
    with whole_file(path) as temporary:
        compiler.Compiler().compile(PIPELINES[pipeline].build(cluster), str(temporary))
