"""Stage 5: the acceptance rule (the settings ``register``), then the MLflow registry."""

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fxnorm.data import dataset, provenance
from fxnorm.data.provenance import listed
from fxnorm.errors import DatasetError, ModelError
from fxnorm.evaluation import significance
from fxnorm.evaluation.comparison import measure
from fxnorm.evaluation.datasets import songs_of
from fxnorm.evaluation.results import (
    METRICS_FILE,
    TABLE_FILE,
    TEST_DATA_FILE,
    Metrics,
    Versions,
    measuring_code,
    read_measuring_code,
    read_metrics,
    read_mixer_digest,
    read_table,
    read_test_data,
)
from fxnorm.io import outputs
from fxnorm.io.files import write_json
from fxnorm.io.names import file_part
from fxnorm.mixing.mixer import Mixer, mixer_digest
from fxnorm.registry import aliases, registered, served_model
from fxnorm.registry.aliases import CHALLENGER, CHAMPION, PREVIOUS, Version
from fxnorm.registry.model_card import MODEL_DESCRIPTION, Card
from fxnorm.settings import RegisterSettings, Settings
from fxnorm.tracking import evaluations, runs
from fxnorm.tracking.runs import DESCRIPTION_TAG, LICENCES_TAG, MIXER_TAG, TrackedRun, source_tags

REGISTRATION_FILE = "registration.json"
CARD_FILE = "model_card.md"

_RULE_TAG = _RULE_KEY = "gate"  # stored with versions and reports since the first registrations; so the name stays
_TAG_LENGTH = 16  # of the code's hash: MLflow takes names of 250 characters, of which a split may be some
_log = logging.getLogger(__name__)

_REGISTERED = "- registered as "

_Values = dict[str, float]
"""song -> the metric that decides"""

Opened = Callable[[], contextlib.AbstractContextManager[Path]]
"""Brings a dataset, which is there while a block runs."""


@dataclass(frozen=True)
class _Candidate:
    """A Mixer with what was measured of it: of the metric that decides, its means and every song's value."""

    folder: Path
    digest: str
    mixer: Mixer
    metrics: Metrics
    tested_on: Versions
    learnt: provenance.TrainedOn
    value: float
    baseline: float
    values: _Values
    baseline_values: _Values

    @classmethod
    def read(cls, rule: RegisterSettings, folder: Path, report: Path) -> "_Candidate":
        mixer, digest, metrics = Mixer.load(folder), mixer_digest(folder), read_metrics(report)
        if digest != read_mixer_digest(report):
            raise DatasetError(
                f"{report}: expected a report of {folder}, found another Mixer's; 'fxnorm evaluate' makes one"
            )
        compared = _compared(rule, metrics, _system(mixer), report / METRICS_FILE)
        _check_code(report)
        tested_on = read_test_data(report)
        if "digest" not in tested_on.get(rule.split, {}):
            raise DatasetError(f"{report / TEST_DATA_FILE}: expected {rule.split}.digest, found none; evaluate again")
        by_song = [_by_song(rule, report, system) for system in (_system(mixer), rule.baseline)]
        return cls(folder, digest, mixer, metrics, tested_on, provenance.read(folder), *compared, *by_song)

    def tags(self, rule: RegisterSettings) -> dict[str, str]:
        """Tags of its version, which a later candidate is compared with and an interrupted registration is found by."""
        measured = _measured(rule, self.tested_on[rule.split]["digest"], self.values)
        licences = {LICENCES_TAG: ", ".join(self.learnt.licences)} if self.learnt.is_known else {}
        return {MIXER_TAG: self.digest, served_model.DIGEST_TAG: served_model.digest(), **measured, **licences}


@dataclass(frozen=True)
class _AcceptanceTest:
    """The acceptance rule applied to a candidate: it decides which alias the candidate gets."""

    settings: Settings
    candidate: _Candidate
    data: Path | Opened | None
    report: Path
    run: TrackedRun

    def decide(self, champion: Version | None) -> tuple[str, str]:
        """The alias that the candidate gets if this is the champion, and why."""
        rule, candidate = self.settings.register_, self.candidate
        if rule.allowed_licences and (outside := candidate.learnt.outside(rule.allowed_licences)):
            allowed = ", ".join(rule.allowed_licences)
            return CHALLENGER, f"trained on {listed(outside)}; register.allowed_licences has {allowed}"
        name = f"{rule.split}.{rule.metric}"
        against = f"{_system(candidate.mixer)} {candidate.value:.3f}, {rule.baseline} {candidate.baseline:.3f}"
        if rule.force:
            return CHAMPION, f"register.force: a person's word; in {name}: {against}"
        if not _better(candidate.value, candidate.baseline, rule):
            return CHALLENGER, f"not better than the baseline in {name}: {against}"
        shown = _Shown.of(candidate.values, candidate.baseline_values, rule)
        if shown.by_chance:
            return CHALLENGER, f"better than the baseline in {name}, which may be chance: {against}; {shown}"
        if champion is None:
            return CHAMPION, f"better than the baseline in {name}: {against}; {shown}"
        if champion.tags.get(MIXER_TAG) == candidate.digest:
            return CHAMPION, f"version {champion.number}, the champion, anew: the same Mixer; in {name}: {against}"
        try:
            values = self._values_of(champion)
        except ModelError as error:
            return CHALLENGER, f"cannot be compared with the champion (version {champion.number}): {error}"
        if values is None:
            songs = _songs_tag(rule, candidate.tested_on[rule.split]["digest"])
            by_other_code = " by this code" if any(tag.startswith(songs) for tag in champion.tags) else ""
            return CHALLENGER, (
                f"cannot be compared with the champion (version {champion.number}), which was not measured on these"
                f" songs{by_other_code}; --dataset DATA has that done"
            )
        best = float(np.mean(list(values.values())))
        self.run.log(0, {f"{rule.split}.{CHAMPION}.{rule.metric}": best})
        against += f", champion (version {champion.number}) {best:.3f}"
        if not _better(candidate.value, best, rule):
            return CHALLENGER, f"not better than the champion in {name}: {against}"
        shown = _Shown.of(candidate.values, values, rule)
        if shown.by_chance or shown.too_few:
            return CHALLENGER, f"better than the champion in {name}, which may be chance: {against}; {shown}"
        return CHAMPION, f"better than the baseline and the champion in {name}: {against}; {shown}"

    def _values_of(self, champion: Version) -> _Values | None:
        """The champion's metric on each of the candidate's songs, measured again if it is of others or by other code.

        None if there are no songs to measure it on.
        """
        rule = self.settings.register_
        digest = self.candidate.tested_on[rule.split]["digest"]
        measured = champion.tags.get(_value_tag(rule, digest))
        if measured is not None and (values := _read_values(measured, self.candidate.values)) is not None:
            return values
        if self.data is None:
            return None
        with contextlib.nullcontext(self.data) if isinstance(self.data, Path) else self.data() as data:
            self._check_data(data, digest)
            tqdm.write(
                f"{champion.uri}: was not measured on the candidate's songs by this code; is measured on {data} now"
            )
            mixer = registered.open_mixer(champion.uri)
            metrics = measure(mixer, data, self.settings.evaluate.split, rule.split)
        values = {song: found[rule.metric] for song, found in metrics.items() if rule.metric in found}
        if not values.keys() & self.candidate.values.keys():
            raise ModelError(f"{champion.uri}: its {rule.metric} cannot be measured on {data}")
        aliases.note(champion.name, champion.number, _measured(rule, digest, values))
        return values

    def _check_data(self, data: Path, digest: str) -> None:
        rule = self.settings.register_
        if dataset.digest(songs_of(data, self.settings.evaluate.split, rule.split)) != digest:
            raise DatasetError(
                f"{data}: expected the songs of {rule.split} that {self.report / TEST_DATA_FILE} lists, found"
                " others; 'fxnorm evaluate' makes a report of these"
            )


@dataclass(frozen=True)
class _Shown:
    """What the songs show about a candidate that is better on average.

    Attributes:
        songs: how many both were measured on.
        p_value: of the paired test.
        rule: the acceptance rule.
    """

    songs: int
    p_value: float
    rule: RegisterSettings

    @classmethod
    def of(cls, candidate: _Values, other: _Values, rule: RegisterSettings) -> "_Shown":
        songs = sorted(candidate.keys() & other.keys())
        return cls(len(songs), _p_value(tuple(candidate[song] - other[song] + rule.margin for song in songs)), rule)

    @property
    def _needed(self) -> int:
        return significance.songs_needed(1, 1 - self.rule.confidence)

    @property
    def too_few(self) -> bool:
        """Whether no result on so few songs could be told from chance, where it has to be."""
        return self.rule.confidence > 0 and self.songs < self._needed

    @property
    def by_chance(self) -> bool:
        """Whether there are songs enough to tell, and they do not."""
        return self.rule.confidence > 0 and not self.too_few and self.p_value >= 1 - self.rule.confidence

    def __str__(self) -> str:
        songs = "1 song" if self.songs == 1 else f"{self.songs} songs"
        if self.rule.confidence == 0:
            return f"the mean of {songs} decides (register.confidence 0)"
        if self.too_few:
            return (
                f"{songs}, too few to tell from chance: register.confidence {self.rule.confidence:g} takes at least"
                f" {self._needed}"
            )
        test = f"p = {self.p_value:.2g} (Wilcoxon, {songs})"
        if self.by_chance:
            asked = f"register.confidence {self.rule.confidence:g} asks for less than {1 - self.rule.confidence:.2g}"
            return f"{test}, where {asked}"
        return test


def run(
    settings: Settings,
    mixer_folder: Path,
    report: Path,
    data: Path | Opened | None = None,
    curve: Path | None = None,
    plots: Path | None = None,
    once: bool = False,
) -> dict[str, str]:
    """Register a Mixer: as ``@champion`` if it meets the acceptance rule, else as ``@challenger`` with the reason.

    The champion so far keeps the alias ``@previous``. A champion that was measured on other songs, or by other code, is
    measured again on the candidate's, which takes the dataset. A tracking server that does not know the Mixer's run
    gets all results of the training and the evaluation.

    Args:
        settings: of all stages; the acceptance rule is the section ``register``.
        mixer_folder: what stage 3 wrote.
        report: what stage 4 wrote; ``registration.json`` is added to it.
        data: the dataset that the report is of, as stage 4 got it, or what brings it when it is needed.
        curve: the loss over epochs that stage 3 wrote, for a server that has none yet.
        plots: the pictures of the stages before, likewise.
        once: a Mixer that was registered whole with this report and this code keeps its version; its alias
            is decided again if the acceptance rule has changed.

    Returns:
        name, version, alias and reason, as they stand in ``registration.json``.

    Raises:
        DatasetError: the report is not complete, of another Mixer or measured by other code, or ``data`` is another
            dataset than the report's.
    """
    rule = settings.register_
    candidate = _Candidate.read(rule, mixer_folder, report)
    outputs.check([], files=[report / REGISTRATION_FILE])  # not when the aliases have moved already
    if curve is not None and not curve.is_file():
        raise DatasetError(f"{curve}: no such file; expected the loss over epochs, as 'fxnorm train' writes it")
    if plots is not None and not plots.is_dir():
        raise DatasetError(f"{plots}: no such folder; expected pictures of the earlier stages")
    trained = runs.run_of(mixer_folder, report, "registration")
    with trained.adding(), evaluations.run_for(report, trained) as evaluated:
        _complete(trained, evaluated, report, rule.metric, curve, plots)
        test = _AcceptanceTest(settings, candidate, data, report, evaluated)
        champion = aliases.version_at(rule.name, CHAMPION)
        test.decide(champion)  # before anything is registered, so that errors of the user are raised first
        kept = _kept(candidate, rule) if once else None
        version = _version(candidate, rule, trained) if kept is None else kept.number
        standing = None if kept is None else _standing(kept, rule)
        alias, reason = standing or _settle(test, rule.name, version)
        decision = {"name": rule.name, "version": version, "alias": alias, "reason": reason}
        _publish(settings, candidate, decision, trained, evaluated, report)
    return decision


def passes(settings: Settings, mixer_folder: Path, report: Path) -> bool:
    """Whether a Mixer is better than the baseline: worth a place in the registry, whatever the champion is like.

    One that a person forces is.
    """
    rule = settings.register_
    system = _system(Mixer.load(mixer_folder))
    return rule.force or _better(*_compared(rule, read_metrics(report), system, report / METRICS_FILE), rule)


def _complete(
    trained: TrackedRun, evaluated: TrackedRun, report: Path, metric: str, curve: Path | None, plots: Path | None
) -> None:
    """Put into the runs what the stages before put into those of another server, or what they lost since."""
    if not evaluations.is_published(evaluated):
        evaluations.publish(report, evaluated, metric)
    if curve is not None and not trained.has_file(file_part(curve.name)):
        if not trained.has_metric("train/loss"):
            trained.replay(curve)
        trained.add_file(curve)
    pictures = [] if plots is None else sorted(path for path in plots.iterdir() if path.is_file())
    if plots is not None and not all(trained.has_file(f"plots/{file_part(picture.name)}") for picture in pictures):
        trained.add_folder(plots, "plots")


def _kept(candidate: _Candidate, rule: RegisterSettings) -> Version | None:
    """The newest version that is this Mixer with this report and code and can be served still, if there is one."""
    versions = aliases.registered(rule.name, candidate.tags(rule))
    return next((version for version in versions if registered.is_whole(version)), None)


def _standing(version: Version, rule: RegisterSettings) -> tuple[str, str] | None:
    """The alias that a version got by the same rule, or by a rollback since, and that it keeps; None if it has none."""
    if version.tags.get(_RULE_TAG) != _rule_text(rule) or aliases.version_at(version.name, CHAMPION) is None:
        return None
    for alias in (CHAMPION, PREVIOUS, CHALLENGER):
        holder = aliases.version_at(version.name, alias)
        if holder is not None and holder.number == version.number:
            same = "the same Mixer, report, code and acceptance rule"
            return alias, f"registered before, as version {version.number}: {same}"
    return None


def _version(candidate: _Candidate, rule: RegisterSettings, trained: TrackedRun) -> str:
    """The candidate's version: a new one, unless a registration of it was interrupted before."""
    tags = candidate.tags(rule)
    begun = aliases.unfinished(rule.name, trained.run_id, tags)
    if begun is not None:
        tqdm.write(f"{rule.name}: version {begun} is this Mixer's, whose registration was interrupted; it goes on")
        return begun
    return registered.register(candidate.folder, rule.name, trained.run_id, tags)


def _settle(test: _AcceptanceTest, name: str, version: str) -> tuple[str, str]:
    """Move the aliases by what is true at this moment: meanwhile, another registration may have made a champion."""
    while True:
        champion = aliases.version_at(name, CHAMPION)
        alias, reason = test.decide(champion)
        if alias == CHALLENGER:
            aliases.challenge(name, version)
            return alias, reason
        if aliases.version_at(name, CHAMPION) == champion:
            same = champion is not None and champion.tags.get(MIXER_TAG) == test.candidate.digest
            aliases.promote(name, version, None if same else champion)
            return alias, reason


def _publish(
    settings: Settings,
    candidate: _Candidate,
    decision: dict[str, str],
    trained: TrackedRun,
    evaluated: TrackedRun,
    report: Path,
) -> None:
    """Write the decision beside the report, into the evaluation's run, and into the version's description."""
    rule = settings.register_
    write_json(report / REGISTRATION_FILE, decision | {_RULE_KEY: rule.model_dump(mode="json")})
    card = Card(
        name=rule.name,
        version=decision["version"],
        alias=decision["alias"],
        reason=decision["reason"],
        metrics=candidate.metrics,
        decided_by=(rule.split, rule.metric),
        trained_on=candidate.mixer.recipe.data,
        tested_on=candidate.tested_on,
        network=candidate.mixer.network.config,
        parameters=sum(values.numel() for values in candidate.mixer.network.parameters()),
        params=trained.params(),
        tags=trained.tags(),
        run_id=trained.run_id,
        sources=candidate.learnt,
    )
    aliases.introduce(rule.name, MODEL_DESCRIPTION)
    evaluated.add_text(CARD_FILE, card.markdown())
    evaluated.add_file(report / REGISTRATION_FILE)
    tags = evaluated.tags()
    verdicts = [line for line in tags.get(DESCRIPTION_TAG, "").splitlines() if not line.startswith(_REGISTERED)]
    registered = "{name} version {version}, `@{alias}`: {reason}".format(**decision)
    description = "\n".join([*verdicts, _REGISTERED + registered])
    settled = {"registration.alias": decision["alias"], DESCRIPTION_TAG: description}
    trained.set_tags(source_tags(candidate.learnt))
    evaluated.set_tags(settled)
    # at the end, because a version that has none yet is one whose registration was interrupted
    aliases.note(rule.name, decision["version"], {_RULE_TAG: _rule_text(rule)}, card.shortened(CARD_FILE))


def _compared(rule: RegisterSettings, metrics: Metrics, system: str, source: Path) -> tuple[float, float]:
    """The metric of the network and of the baseline."""
    return (
        _look_up(metrics, rule.split, system, rule.metric, source),
        _look_up(metrics, rule.split, rule.baseline, rule.metric, source),
    )


def _look_up(metrics: Metrics, split: str, system: str, metric: str, file: Path) -> float:
    try:
        return metrics[split][system][metric]
    except KeyError as error:
        raise DatasetError(f"{file}: expected {split}.{system}.{metric}, found no {error.args[0]!r}") from error


@functools.lru_cache  # a registration asks twice: before it begins, and when aliases move
def _p_value(differences: tuple[float, ...]) -> float:
    return significance.p_value_of_lower(np.array(differences))


def _better(value: float, other: float, rule: RegisterSettings) -> bool:
    return value < other - rule.margin


def _rule_text(rule: RegisterSettings) -> str:
    """The rule as versions have it; without licences it is that of versions from before there were any."""
    return rule.model_dump_json(exclude=None if rule.allowed_licences else {"allowed_licences"})


def _measured(rule: RegisterSettings, digest: str, values: _Values) -> dict[str, str]:
    """A version's tags: the metric on each of the songs with this digest, and its mean by a plain name, for people.

    The digest stands for the songs' names, so the values in the order of the names are enough.
    """
    in_order = json.dumps([values[song] for song in sorted(values)])
    return {
        _value_tag(rule, digest): in_order,
        f"{rule.split}.{rule.metric}": repr(float(np.mean(list(values.values())))),
    }


def _read_values(tag: str, candidate: Mapping[str, float]) -> _Values | None:
    """What :func:`_measured` noted, by the names of the candidate's songs, which are the same.

    None if the metric had no value on some of the songs then or has none now, so that they cannot be told apart, or if
    somebody wrote something else into the tag.
    """
    try:
        values = [float(value) for value in json.loads(tag)]
        return dict(zip(sorted(candidate), values, strict=True))
    except (TypeError, ValueError):
        return None


def _by_song(rule: RegisterSettings, report: Path, system: str) -> _Values:
    """The metric of a system on each song of the deciding split.

    Raises:
        DatasetError: the report has no such table, or none of these values.
    """
    file = report / TABLE_FILE
    if not file.is_file():
        raise DatasetError(f"{file}: no such file; evaluate again, as 'fxnorm evaluate' writes it")
    table = read_table(file)
    songs = table[rule.split].songs if rule.split in table else {}
    values = {
        song: systems[system][rule.metric] for song, systems in songs.items() if rule.metric in systems.get(system, {})
    }
    if not values:
        raise DatasetError(f"{file}: expected {rule.metric} of {system} on songs of {rule.split}, found none")
    return values


def _value_tag(rule: RegisterSettings, digest: str) -> str:
    # one tag for each set of songs and each code: a value cannot be taken for another, whenever and whoever writes
    return f"{_songs_tag(rule, digest)}.code.{measuring_code()[:_TAG_LENGTH]}"


def _songs_tag(rule: RegisterSettings, digest: str) -> str:
    return f"{rule.split}.{rule.metric}.songs.{digest}"


def _check_code(report: Path) -> None:
    """Refuse a report that other code measured, because the champion's metric is measured by this code.

    Raises:
        DatasetError: it was measured by other code.
    """
    code = read_measuring_code(report)
    if code is None:
        _log.warning(
            "%s: does not name the code that measured it; its metrics are taken for those of this code", report
        )
    elif code != measuring_code():
        raise DatasetError(
            f"{report}: expected a report that this code measured, found one of other code; 'fxnorm evaluate' makes one"
        )


def _system(mixer: Mixer) -> str:
    return str(mixer.network.config["name"])
