"""The first tasks of a pipeline that trains: songs of a git revision, checked, measured and normalized in shards."""

from dataclasses import dataclass
from typing import Any

from kfp import dsl

from fxnorm import components
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.tasks import on_any_node


@dataclass(frozen=True)
class Songs:
    """What the tasks give: all data, the statistics, and the normalized songs of a shard, to be collected."""

    data: Any
    statistics: Any
    normalized: Any


def prepared(
    cluster: Cluster,
    repository: Any,
    revision: Any,
    path: Any,
    remote: Any,
    shards: Any,
    check_settings: Any,
    statistics_settings: Any,
    normalize_settings: Any,
) -> Songs:
    """The tasks, for the parameters of a pipeline that is being made."""
    # a branch moves on, and so does the image of a name: what they stand for is looked up each time, and all that
    # follows depends on it
    now = on_any_node(cluster, components.resolve(repository=repository, revision=revision), cached=False).outputs
    fetched = on_any_node(cluster, components.fetch(
        repository=repository, commit=now["commit"], path=path, remote=remote, shards=shards, code=now["fetching"]
    ))  # fmt: skip
    data = fetched.outputs["data"]
    checked = on_any_node(cluster, components.check(
        data=data, path=path, settings=check_settings, code=now["checking"]
    ))  # fmt: skip
    sound = on_any_node(cluster, components.stop_at_findings(findings=checked.outputs["findings"]))
    with dsl.ParallelFor(fetched.outputs["Output"], parallelism=cluster.parallel_shards or None) as shard:
        part = on_any_node(cluster, components.statistics(
            data=data, path=path, shard=shard, settings=statistics_settings, code=now["measuring"]
        )).after(sound)  # fmt: skip
    merged = on_any_node(cluster, components.merge_statistics(
        parts=dsl.Collected(part.outputs["part"]), code=now["measuring"]
    ))  # fmt: skip
    with dsl.ParallelFor(fetched.outputs["Output"], parallelism=cluster.parallel_shards or None) as shard:
        normalized = on_any_node(cluster, components.normalize(
            data=data, path=path, statistics=merged.output, shard=shard, settings=normalize_settings,
            code=now["normalizing"],
        ))  # fmt: skip
    return Songs(data, merged.output, normalized.outputs["normalized"])
