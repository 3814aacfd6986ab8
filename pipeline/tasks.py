"""Where tasks run: image, cores, memory, accelerators, secrets, retries, as the cluster's settings say."""

from kfp import dsl, kubernetes

from fxnorm.pipeline.cluster import Cluster

_SHARED_MEMORY = "/dev/shm"
_DAY_SECONDS = 24 * 60 * 60


def on_any_node(cluster: Cluster, task: dsl.PipelineTask, cached: bool = True) -> dsl.PipelineTask:
    """A task on any node. What gives the same for the same is not done again; what writes to MLflow always is."""
    task.set_cpu_limit(cluster.cpu).set_memory_limit(cluster.memory)
    return _anywhere(cluster, task, cached, cluster.retries.others, cluster.retries.others_days)


def on_training_node(cluster: Cluster, task: dsl.PipelineTask) -> None:
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
