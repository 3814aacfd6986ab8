"""Where tasks run: image, cores, memory, accelerators, secrets, retries, as the cluster's settings say."""

import contextlib

from kfp import dsl, kubernetes

from fxnorm import components
from fxnorm.pipeline.cluster import Cluster
from fxnorm.stages.fetch import CACHE_VARIABLE

_SHARED_MEMORY = "/dev/shm"
_SCRATCH = "/scratch"
_DATA_CACHE = "/data-cache"
_READING_SONGS = {"divide", "check", "statistics", "normalize", "evaluate", "register"}
_DAY_SECONDS = 24 * 60 * 60


def announced(cluster: Cluster, pipeline: str) -> contextlib.AbstractContextManager[object]:
    """All tasks of a pipeline stand in this block: its end is told of, however it came, where the cluster says so."""
    if cluster.announce is None:
        return contextlib.nullcontext()
    last = on_any_node(cluster, components.announce(
        pipeline=pipeline, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        kubeflow=cluster.announce.kubeflow, mlflow=cluster.announce.mlflow,
    ), cached=False)  # fmt: skip
    return dsl.ExitHandler(last)


def on_any_node(cluster: Cluster, task: dsl.PipelineTask, cached: bool = True) -> dsl.PipelineTask:
    """A task on any node. What gives the same for the same is not done again; what writes to MLflow always is."""
    task.set_cpu_limit(cluster.cpu).set_memory_limit(cluster.memory)
    return _anywhere(cluster, task, cached, cluster.retries.others, cluster.retries.others_days)


def on_training_node(cluster: Cluster, task: dsl.PipelineTask, cached: bool = False) -> None:
    """A task on a node for training; it is done again each time unless it gives the same for the same."""
    node = cluster.training
    task.set_cpu_limit(node.cpu).set_memory_limit(node.memory)
    if node.accelerators:
        task.set_accelerator_type(node.accelerator).set_accelerator_limit(node.accelerators)
    for key, value in node.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in node.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump())
    kubernetes.empty_dir_mount(task, "shared-memory", _SHARED_MEMORY, medium="Memory", size_limit=node.shared_memory)
    _anywhere(cluster, task, cached, repeats=cluster.retries.training, days=cluster.retries.training_days)


def _anywhere(cluster: Cluster, task: dsl.PipelineTask, cached: bool, repeats: int, days: int) -> dsl.PipelineTask:
    task.set_container_image(cluster.image)
    task.set_caching_options(cached)
    if repeats:
        # the factor stays 1: Kubeflow has no longest pause, and the tenth doubled one would be of eight hours; what it
        # calls the longest back-off is the time after which it gives up
        task.set_retry(repeats, f"{cluster.retries.pause_seconds}s", 1, f"{days * _DAY_SECONDS}s")
    if cluster.disk is not None:
        kubernetes.empty_dir_mount(task, "scratch", _SCRATCH, size_limit=cluster.disk)
        task.set_env_variable("TMPDIR", _SCRATCH)
    if cluster.data_cache is not None and task.name.partition("-")[0] in _READING_SONGS:
        kubernetes.mount_pvc(task, cluster.data_cache, _DATA_CACHE)
        task.set_env_variable(CACHE_VARIABLE, _DATA_CACHE)
    for secret in cluster.secrets:
        if not secret.tasks or task.name in secret.tasks:
            kubernetes.use_secret_as_env(task, secret.name, dict(secret.keys), optional=secret.optional)
    return task
