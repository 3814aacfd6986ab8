"""The pipeline that searches for settings: songs as for a training, a task a trial on GPU nodes, the best Mixer.

Trials share a study in a database, so each task does whatever trial is next. A task that is started anew, and a run
that is submitted again, go on with what is there.
"""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from fxnorm import components
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.songs import prepared
from fxnorm.pipeline.tasks import announced, on_any_node, on_training_node

NAME = "fxnorm-search"


def build(cluster: Cluster) -> BaseComponent:
    """The pipeline for a cluster; what it works on are its parameters."""

    @dsl.pipeline(name=NAME, description="Many trainings with other settings, and the best one's Mixer and settings.")
    def search(
        repository: str,
        space: str,
        output: str,
        name: str = "search",
        storage: str = "",
        revision: str = "main",
        path: str = "data",
        remote: str = "",
        shards: int = 4,
        store: str = "",
        check_settings: dict = {},  # noqa: B006  compiled, never called
        statistics_settings: dict = {},  # noqa: B006
        normalize_settings: dict = {},  # noqa: B006
        train_settings: dict = {},  # noqa: B006
        resources_settings: dict = {},  # noqa: B006
    ) -> None:
        """Many trainings with other settings, and the best one's Mixer and settings.

        Args:
            repository: address of a git repository with DVC.
            space: what is varied and how, as a file for ``fxnorm search`` has it; JSON.
            output: ``s3://BUCKET/PREFIX``, or a folder that all tasks see, for checkpoints and Mixers.
            name: of the study.
            storage: address of the study's database; by default that of a secret.
            revision: branch, tag or commit.
            path: the tracked folder with ``wet``, ``dry`` and ``impulse_responses``.
            remote: name of the DVC remote; the repository's default one if empty.
            shards: parts that statistics and normalization are done in.
            store: ``s3://BUCKET/PREFIX``, or a folder that all tasks see, for normalized songs; artifacts of Kubeflow
                if empty.
            check_settings: a section of ``params.yaml``; what is left out has its default.
            statistics_settings: likewise.
            normalize_settings: likewise.
            train_settings: likewise.
            resources_settings: likewise.
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
                store=store,
            )
            study = {
                "space": space, "statistics_settings": statistics_settings, "normalize_settings": normalize_settings,
                "train_settings": train_settings, "resources_settings": resources_settings, "output": output,
                "name": name, "storage": storage,
            }  # fmt: skip
            begun = on_any_node(
                cluster, components.begin_search(normalized=dsl.Collected(songs.normalized), **study), cached=False
            )
            with dsl.ParallelFor(begun.outputs["Output"], parallelism=cluster.parallel_trials or None) as trial:
                done = components.search_trial(
                    songs=begun.outputs["songs"], trial=trial, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **study
                )
                on_training_node(cluster, done)
            on_any_node(
                cluster,
                components.collect_search(
                    songs=begun.outputs["songs"], done=dsl.Collected(done.outputs["Output"]), **study
                ),
                cached=False,
            )

    return search
