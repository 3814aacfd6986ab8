"""The pipeline that mixes many sessions: listed once, mixed in shards, a table and a page on all of them.

Mixes go to their place at once, not through Kubeflow's store, and what lies there is not mixed again. So a task that is
started anew goes on, and so does a run that is submitted again.
"""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from fxnorm import components
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.tasks import announced, on_any_node

NAME = "fxnorm-batch"


def build(cluster: Cluster) -> BaseComponent:
    """The pipeline for a cluster; what it works on are its parameters."""

    @dsl.pipeline(name=NAME, description="Every session and song below a place to a mix, with a table and a page.")
    def batch(
        sessions: str,
        output: str,
        mixer: str = "models:/fxnorm-automix@champion",
        shards: int = 4,
        options: dict = {},  # noqa: B006  compiled, never called
        parts: bool = False,
        most_failed: int = 0,
    ) -> None:
        """Every session and song below a place to a mix.

        Args:
            sessions: ``s3://BUCKET/PREFIX``, or a folder that all tasks see.
            output: likewise, for mixes, ``mixes.csv`` and ``index.html``.
            mixer: ``models:/NAME@ALIAS``, ``s3://BUCKET/PREFIX``, or a folder that the first task sees.
            shards: parts that the sessions are mixed in.
            options: of each mix, as the endpoint has them.
            parts: whether to write what each stem contributes, too.
            most_failed: how many sessions may fail before the run counts as failed.
        """
        with announced(cluster, NAME):
            # what lies at these places is another each time, so nothing is taken over from earlier runs but mixes
            listed = on_any_node(
                cluster, components.list_sessions(mixer=mixer, sessions=sessions, shards=shards), cached=False
            )
            model, listing = listed.outputs["model"], listed.outputs["listing"]
            with dsl.ParallelFor(listed.outputs["Output"], parallelism=cluster.parallel_shards or None) as shard:
                mixed = on_any_node(
                    cluster,
                    components.mix_sessions(
                        model=model,
                        listing=listing,
                        shard=shard,
                        mixer=mixer,
                        output=output,
                        options=options,
                        parts=parts,
                    ),
                    cached=False,
                )
            finished = on_any_node(
                cluster,
                components.finish_mixes(
                    model=model,
                    listing=listing,
                    failed=dsl.Collected(mixed.output),
                    mixer=mixer,
                    output=output,
                    options=options,
                    parts=parts,
                ),
                cached=False,
            )
            on_any_node(
                cluster,
                components.stop_at_failures(failed=finished.outputs["Output"], most_failed=most_failed, output=output),
                cached=False,
            )

    return batch
