"""A Mixer that others trained, in the MLflow registry: with a run that says where it is from, and without metrics.

Nothing was measured, so the acceptance rule has nothing to decide: the version gets the alias that a person asks for,
or none. ``fxnorm evaluate`` and ``fxnorm register`` take the same Mixer through the rule later, in the same run.
"""

from pathlib import Path

from fxnorm.data import provenance
from fxnorm.data.provenance import listed
from fxnorm.errors import FxnormError
from fxnorm.mixing.import_reference import LICENCE, REPOSITORY, Origin
from fxnorm.mixing.mixer import Mixer, mixer_digest
from fxnorm.registry import aliases, registered, served_model
from fxnorm.registry.aliases import CHALLENGER, CHAMPION
from fxnorm.registry.model_card import MODEL_DESCRIPTION, Card
from fxnorm.settings import RegisterSettings, Settings
from fxnorm.tracking import runs
from fxnorm.tracking.runs import DESCRIPTION_TAG, LICENCES_TAG, MIXER_TAG

CARD_FILE = "model_card.md"


def run(settings: Settings, mixer_folder: Path, origin: Origin, alias: str | None = None) -> str:
    """Register an imported Mixer, once for the same Mixer and the same code that serves it.

    Args:
        settings: of all stages; ``register`` has the name of the model and the licences that a champion may have.
        mixer_folder: what the import wrote.
        origin: where it is from.
        alias: ``challenger`` or ``champion``; None leaves all aliases as they are.

    Returns:
        the version's number.

    Raises:
        FxnormError: the champion's licences exclude its training data, or the registry does not take it.
    """
    rule, learnt = settings.register_, provenance.read(mixer_folder)
    if alias == CHAMPION:
        _refuse_licences(rule, learnt)
    source = {
        "imported.from": REPOSITORY,
        "imported.experiment": origin.experiment,
        "imported.licence": LICENCE,
        "imported.weights": origin.weights,
        "imported.averages": origin.averages,
    }
    licences = {LICENCES_TAG: ", ".join(learnt.licences)} if learnt.is_known else {}
    tags = {
        MIXER_TAG: mixer_digest(mixer_folder),
        served_model.DIGEST_TAG: served_model.digest(),
        **source,
        **licences,
    }
    with runs.run_of_imported(mixer_folder, f"imported {origin.experiment}", source) as tracked:
        versions = aliases.registered(rule.name, tags)
        number = next((version.number for version in versions if registered.is_whole(version)), None)
        if number is None:
            begun = aliases.unfinished(rule.name, tracked.run_id, tags)
            number = begun or registered.register(mixer_folder, rule.name, tracked.run_id, tags)
        _move(rule.name, number, alias)
        mixer = Mixer.load(mixer_folder)
        card = Card(
            name=rule.name,
            version=number,
            alias=alias,
            reason=f"imported: {origin}; neither trained nor evaluated here",
            metrics={},
            decided_by=(rule.split, rule.metric),
            trained_on={},
            tested_on={},
            network=mixer.network.config,
            parameters=sum(values.numel() for values in mixer.network.parameters()),
            params=tracked.params(),
            tags=tracked.tags(),
            run_id=tracked.run_id,
            sources=learnt,
        )
        aliases.introduce(rule.name, MODEL_DESCRIPTION)
        tracked.add_text(CARD_FILE, card.markdown())
        tracked.set_tags({DESCRIPTION_TAG: f"- imported: {origin}"})
        # at the end, because a version that has none yet is one whose registration was interrupted
        aliases.note(rule.name, number, {}, card.shortened(CARD_FILE))
    return number


def _refuse_licences(rule: RegisterSettings, learnt: provenance.TrainedOn) -> None:
    outside = learnt.outside(rule.allowed_licences) if rule.allowed_licences else []
    if outside:
        allowed = ", ".join(rule.allowed_licences)
        raise FxnormError(f"--alias {CHAMPION}: trained on {listed(outside)}; register.allowed_licences has {allowed}")


def _move(name: str, number: str, alias: str | None) -> None:
    if alias == CHALLENGER:
        aliases.challenge(name, number)
    elif alias == CHAMPION:
        champion = aliases.version_at(name, CHAMPION)
        if champion is None or champion.number != number:
            aliases.promote(name, number, champion)
