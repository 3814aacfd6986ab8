"""The pipeline: fetch, check, statistics and normalization over shards, training on a GPU node, evaluate, register."""

from pathlib import Path

from kfp import compiler, dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from fxnorm import components
from fxnorm.io.files import whole_file
from fxnorm.pipeline.cluster import Cluster

NAME = "fxnorm-automix"
_SHARED_MEMORY = "/dev/shm"
_DAY_SECONDS = 24 * 60 * 60


def build(cluster: Cluster) -> BaseComponent:
    """The pipeline for a cluster; what it works on are its parameters."""

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
        check_settings: dict = {},  # noqa: B006  compiled, never called
        statistics_settings: dict = {},  # noqa: B006
        normalize_settings: dict = {},  # noqa: B006
        train_settings: dict = {},  # noqa: B006
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
            check_settings: a section of ``params.yaml``; what is left out has its default.
            statistics_settings: likewise.
            normalize_settings: likewise.
            train_settings: likewise.
            evaluate_settings: likewise.
            register_settings: likewise.
        """
        # a branch moves on, and so does the image of a name: what they stand for is looked up each time, and all that
        # follows depends on it
        now = _on(cluster, components.resolve(repository=repository, revision=revision), cached=False).outputs
        fetched = _on(cluster, components.fetch(
            repository=repository, commit=now["commit"], path=path, remote=remote, shards=shards, code=now["fetching"]
        ))  # fmt: skip
        data = fetched.outputs["data"]
        checked = _on(cluster, components.check(
            data=data, path=path, settings=check_settings, code=now["checking"]
        ))  # fmt: skip
        sound = _on(cluster, components.stop_at_findings(findings=checked.outputs["findings"]))
        with dsl.ParallelFor(fetched.outputs["Output"], parallelism=cluster.parallel_shards or None) as shard:
            part = _on(cluster, components.statistics(
                data=data, path=path, shard=shard, settings=statistics_settings, code=now["measuring"]
            )).after(sound)  # fmt: skip
        merged = _on(cluster, components.merge_statistics(
            parts=dsl.Collected(part.outputs["part"]), code=now["measuring"]
        ))  # fmt: skip
        with dsl.ParallelFor(fetched.outputs["Output"], parallelism=cluster.parallel_shards or None) as shard:
            normalized = _on(cluster, components.normalize(
                data=data, path=path, statistics=merged.output, shard=shard, settings=normalize_settings,
                code=now["normalizing"],
            ))  # fmt: skip
        trained = components.train(
            normalized=dsl.Collected(normalized.outputs["normalized"]),
            statistics=merged.output,
            statistics_settings=statistics_settings,
            normalize_settings=normalize_settings,
            train_settings=train_settings,
            processes=max(cluster.training.accelerators, 1),
            checkpoints=checkpoints,
        )
        _on_training_node(cluster, trained)
        evaluated = _on(cluster, components.evaluate(
            mixer=trained.outputs["mixer"], data=data, path=path,
            statistics_settings=statistics_settings, normalize_settings=normalize_settings,
            train_settings=train_settings, evaluate_settings=evaluate_settings, register_settings=register_settings,
        ), cached=False)  # fmt: skip
        with dsl.If(evaluated.outputs["Output"] == True, name="accepted"):  # noqa: E712  kfp's own equality
            _on(cluster, components.register(
                mixer=trained.outputs["mixer"], report=evaluated.outputs["report"], data=data, path=path,
                evaluate_settings=evaluate_settings, register_settings=register_settings,
            ), cached=False)  # fmt: skip

    return automix


def _on(cluster: Cluster, task: dsl.PipelineTask, cached: bool = True) -> dsl.PipelineTask:
    """A task on any node. What gives the same for the same is not done again; what writes to MLflow always is."""
    task.set_cpu_limit(cluster.cpu).set_memory_limit(cluster.memory)
    return _anywhere(cluster, task, cached, cluster.retries.others, cluster.retries.others_days)


def _on_training_node(cluster: Cluster, task: dsl.PipelineTask) -> None:
    node = cluster.training
    task.set_cpu_limit(node.cpu).set_memory_limit(node.memory)
    if node.accelerators:
        task.set_accelerator_type(node.accelerator).set_accelerator_limit(node.accelerators)
    for key, value in node.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in node.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    kubernetes.empty_dir_mount(task, "shared-memory", _SHARED_MEMORY, medium="Memory", size_limit=node.shared_memory)
    _anywhere(cluster, task, cached=False, repeats=cluster.retries.training, days=cluster.retries.training_days)


def _anywhere(cluster: Cluster, task: dsl.PipelineTask, cached: bool, repeats: int, days: int) -> dsl.PipelineTask:
    task.set_container_image(cluster.image)
    task.set_caching_options(cached)
    if repeats:
        # the factor stays 1: Kubeflow has no longest pause, and the tenth doubled one would be of eight hours; what it
        # calls the longest back-off is the time after which it gives up
        task.set_retry(repeats, f"{cluster.retries.pause_seconds}s", 1, f"{days * _DAY_SECONDS}s")
    for secret in cluster.secrets:
        if not secret.tasks or task.name in secret.tasks:
            kubernetes.use_secret_as_env(task, secret.name, dict(secret.keys), optional=secret.optional)
    return task


def compile_to(path: Path, cluster: Cluster) -> None:
    """Write the pipeline for a cluster as YAML, whole or not at all."""
    with whole_file(path) as temporary:
        compiler.Compiler().compile(build(cluster), str(temporary))
