"""The text beside a registered version: what it is, how good, from which data and code, and how to use it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fxnorm import __version__
from fxnorm.data.provenance import Share, TrainedOn, listed
from fxnorm.evaluation.catalogue import METRICS, SUMS, rivals, title_of, winners

LONGEST = 5_000
"""Characters that MLflow's registry takes as a description."""

MODEL_DESCRIPTION = (
    "Mixes the stems of a song (vocals, bass, drums, other) into a stereo mix. `@champion` is the version to serve,"
    " `@previous` the one before it (`fxnorm rollback` brings it back), `@challenger` the newest one that was not"
    " better."
)

_COLUMNS = {
    "stereo_loss_b_matched": "stereo loss b, matched",
    "stereo_loss_b": "stereo loss b",
    "stereo_loss_a": "stereo loss a",
    "loudness_mape": "loudness",
    "spectral_mape": "spectral",
    "panning_mape": "panning",
    "dynamic_mape": "dynamic",
}
_LEFT_OUT = "\n\n(More in the run's artifacts: {file}.)"


@dataclass(frozen=True)
class Card:
    """The description of a registered version.

    Args:
        name: of the registered model.
        version: its number.
        alias: what the acceptance rule or a person gave it, if any; aliases move on later.
        reason: why.
        metrics: split -> system -> metric -> value.
        decided_by: the split and the metric that decided.
        trained_on: what is known of the training data's version; empty of a network that others trained.
        tested_on: the same of each split's songs.
        network: the network's settings; ``name`` is what it is called.
        parameters: how many numbers it has learnt.
        params: the run's parameters.
        tags: the run's tags.
        run_id: the run.
        sources: the datasets and licences of the training data.
    """

    name: str
    version: str
    alias: str | None
    reason: str
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]]
    decided_by: tuple[str, str]
    trained_on: Mapping[str, str]
    tested_on: Mapping[str, Mapping[str, str]]
    network: Mapping[str, object]
    parameters: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    run_id: str
    sources: TrainedOn

    def markdown(self) -> str:
        """The whole card."""
        return "\n\n".join(self._sections()) + "\n"

    def shortened(self, file: str) -> str:
        """As many sections as a description holds; ``file`` is the artifact where the rest stands."""
        text, left_out = "", _LEFT_OUT.format(file=file)
        sections = self._sections()
        for number, section in enumerate(sections):
            added = text + "\n\n" * bool(text) + section
            last = number == len(sections) - 1
            if len(added) > LONGEST - (0 if last else len(left_out)):
                return text + left_out
            text = added
        return text

    def _sections(self) -> list[str]:
        tables = [self._table(split) for split in sorted(self.metrics, key=lambda split: split != self.decided_by[0])]
        return [
            f"Registered {f'as `@{self.alias}`' if self.alias else 'without an alias'}: {self.reason}",
            *[table for table in tables if table],
            self._use(),
            self._origin(),
            _rows([["parameter", "value"], ["---"] * 2, *([name, value] for name, value in self.params.items())]),
        ]

    def _table(self, split: str) -> str:
        """Means over the songs of a split, the deciding metric first, the best value of each in bold."""
        means = self.metrics[split]
        # systems of songs without a reference mix have no distance from it
        systems = {system: means[system] for system in rivals(means) if set(means[system]) & set(_COLUMNS)}
        names = sorted(_COLUMNS, key=lambda name: name != self.decided_by[1])
        names = [name for name in names if any(name in means_of_system for means_of_system in systems.values())]
        if not names:
            return ""
        best = {name: winners(name, systems) for name in names}
        rows = [[split, *(_COLUMNS[name] for name in names)], ["---"] * (len(names) + 1)]
        for system, means_of_system in systems.items():
            cells = [_cell(system, name, means_of_system, best[name]) for name in names]
            rows.append([title_of(system), *cells])
        matched = "matched: with each mix at the loudness of its reference"
        return f"{_rows(rows)}\n\nMeans over the songs; lower is better; {matched}."

    def _use(self) -> str:
        uri = f"models:/{self.name}/{self.version}"
        return (
            "**Use**\n\n```sh\n"
            f"fxnorm mix {uri} --vocals v.wav --bass b.wav --drums d.wav --other o.wav --output mix.wav\n"
            f"fxnorm serve {uri}\n```"
        )

    def _origin(self) -> str:
        sizes = _listed({key: value for key, value in self.network.items() if key != "name"})
        dirty = " with uncommitted changes" if self.tags.get("git.dirty") == "true" else ""
        commit = f", commit `{self.tags['git.commit'][:12]}`{dirty}" if "git.commit" in self.tags else ""
        network = title_of(str(self.network["name"]))
        lines = [
            f"**Network** {network}, {self.parameters:,} parameters ({sizes})",
            *([f"**Trained on** {_version(self.trained_on)}"] if self.trained_on else []),
            f"**Songs** {_shares(self.sources)}",
            *[f"**Tested on** {split}, {_version(version)}" for split, version in self.tested_on.items()],
            f"**Code** fxnorm {__version__}{commit}",
            f"**Run** `{self.run_id}`",
        ]
        return "\n\n".join(lines)


def _rows(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(map(_in_a_cell, row))} |" for row in rows)


def _in_a_cell(text: str) -> str:
    """A text that ends neither the cell nor the row of a Markdown table."""
    return " ".join(text.splitlines()).replace("|", "\\|")


def _cell(system: str, metric: str, means: Mapping[str, float], best: Collection[str]) -> str:
    if metric not in means:
        return ""
    if METRICS[metric].sums_match and system in SUMS:
        return "matched"
    return f"**{means[metric]:.3f}**" if system in best else f"{means[metric]:.3f}"


def _version(version: Mapping[str, str]) -> str:
    return ", ".join(f"{'DVC' if key == 'dvc' else key} `{value}`" for key, value in version.items())


def _shares(learnt: TrainedOn) -> str:
    """How many songs of which dataset and licence."""
    if not learnt.is_known:
        return "of unknown origin and licence"
    shares = [_share(share) for share in learnt.shares]
    return f"{'; '.join(shares)}. The songs that chose the checkpoint count as learnt from."


def _share(share: Share) -> str:
    limit = ", no commercial use" if share.commercial is False else ""
    name = listed([share]).replace("\n", " ")
    if share.initial_weights:
        return f"{name}{limit}: by the weights that the training began with, {share.train + share.val} songs"
    return f"{name}{limit}: {share.train} to learn from, {share.val} to choose the checkpoint"


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
