"""The first tasks of a pipeline that trains: songs of a git revision, checked, measured and normalized in shards."""

from dataclasses import dataclass
from typing import Any

from kfp import dsl

from fxnorm import components
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.tasks import on_any_node


@dataclass(frozen=True)
class Songs:
    """What the tasks give: the listing of all songs, the statistics, and shards' normalized songs, to be collected.

    ``training`` is a digest of the code that trains.
    """

    listing: Any
    statistics: Any
    normalized: Any
    training: Any


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
    evaluate_settings: Any = None,
    store: Any = "",
) -> Songs:
    """The tasks, for the parameters of a pipeline that is being made; without settings no evaluation follows."""
    # a branch moves on, and so does the image of a name: what they stand for is looked up each time, and all that
    # follows depends on it
    now = on_any_node(cluster, components.resolve(repository=repository, revision=revision), cached=False).outputs
    listing = on_any_node(cluster, components.list_songs(
        repository=repository, commit=now["commit"], path=path, remote=remote, code=now["fetching"]
    )).outputs["listing"]  # fmt: skip
    # tasks of their own: with other settings the listing stays the same, and so does what is made of its songs; one for
    # each stage, because kfp's local runner loops over a task's only output alone
    shards_of = {stage: on_any_node(cluster, components.divide(
        listing=listing, stage=stage, shards=shards, check_settings=check_settings,
        statistics_settings=statistics_settings, normalize_settings=normalize_settings,
        evaluate_settings={} if evaluate_settings is None else evaluate_settings, tested=evaluate_settings is not None,
        code=now["fetching"],
    )).set_display_name(f"divide-{stage}").output for stage in ("check", "statistics", "normalize")}  # fmt: skip
    at_once = cluster.parallel_shards or None
    with dsl.ParallelFor(shards_of["check"], parallelism=at_once) as shard:
        checked = on_any_node(cluster, components.check(
            listing=listing, shard=shard, settings=check_settings, code=now["checking"]
        ))  # fmt: skip
    found = on_any_node(cluster, components.merge_checks(
        listing=listing, parts=dsl.Collected(checked.outputs["part"]), settings=check_settings, code=now["checking"]
    ))  # fmt: skip
    sound = on_any_node(cluster, components.stop_at_findings(findings=found.outputs["findings"]))
    with dsl.ParallelFor(shards_of["statistics"], parallelism=at_once) as shard:
        part = on_any_node(cluster, components.statistics(
            listing=listing, shard=shard, settings=statistics_settings, code=now["measuring"]
        )).after(sound)  # fmt: skip
    merged = on_any_node(cluster, components.merge_statistics(
        parts=dsl.Collected(part.outputs["part"]), code=now["measuring"]
    ))  # fmt: skip
    with dsl.ParallelFor(shards_of["normalize"], parallelism=at_once) as shard:
        normalized = on_any_node(cluster, components.normalize(
            listing=listing, statistics=merged.output, shard=shard, settings=normalize_settings, store=store,
            code=now["normalizing"],
        ))  # fmt: skip
    return Songs(listing, merged.output, normalized.outputs["normalized"], now["training"])
