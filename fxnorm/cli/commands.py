"""The ``fxnorm`` command: each subcommand reads its options and calls a stage or the Mixer."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fxnorm import __version__
from fxnorm.cli import answers, parts
from fxnorm.cli.import_data import import_data
from fxnorm.cli.listening_test import listening_test
from fxnorm.cli.mix_all import mix_all
from fxnorm.cli.monitor import monitor
from fxnorm.cli.opened import open_mixer
from fxnorm.cli.options import bits as bits_option
from fxnorm.cli.options import on_error as _on_error
from fxnorm.cli.options import shard as _shard
from fxnorm.cli.options import workers as _workers
from fxnorm.cli.page import page
from fxnorm.cli.pipeline import pipeline
from fxnorm.cli.remix import remix
from fxnorm.cli.search import search
from fxnorm.cli.tracks import tracks
from fxnorm.constants import DEFAULT_MIXER, STEMS
from fxnorm.errors import DatasetError, FxnormError, SettingsError, missing_package, printable, system_sentence
from fxnorm.runtime import log
from fxnorm.runtime.signals import Terminated, terminable
from fxnorm.settings import Settings

if TYPE_CHECKING:
    from fxnorm.mixing.mix_files import PartsOut
    from fxnorm.mixing.options import MixOptions

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(path_type=Path)
_PARAMS = Path("params.yaml")
_PICTURES = (".png", ".svg")
_MIXER_FILE = "mixer.json"  # fxnorm.mixing.mixer's, which takes seconds to import


class _ErrorReportingGroup(click.Group):
    """Prints a user's error as one line and exits with its status; anything else is a defect and keeps its trace.

    Ctrl-C and SIGTERM are one line as well, and end with the status that a shell gives for them; what the system
    refuses, such as a folder that may not be read, is a user's error too, and so is an extra that is not installed.
    """

    def invoke(self, context: click.Context) -> Any:
        log.show_warnings()
        context.call_on_close(log.hide_warnings)
        try:
            with terminable():
                return super().invoke(context)
        except FxnormError as error:
            click.echo(f"fxnorm: {error}", err=True)
            sys.exit(error.exit_status)
        except (KeyboardInterrupt, Terminated) as error:
            number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
            notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
            click.echo(f"fxnorm: stopped by {number.name}{notes}", err=True)
            sys.exit(128 + number)
        except (OSError, ModuleNotFoundError) as error:
            sentence = system_sentence(error) if isinstance(error, OSError) else missing_package(error)
            if sentence is None:
                raise
            click.echo(f"fxnorm: {sentence}", err=True)
            sys.exit(FxnormError.exit_status)


@click.group(
    cls=_ErrorReportingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.version_option(__version__, prog_name="fxnorm")
def main() -> None:
    """Automatic music mixing learnt from finished multitracks."""


main.add_command(import_data)
main.add_command(listening_test)
main.add_command(mix_all)
main.add_command(monitor)
main.add_command(page)
main.add_command(pipeline)
main.add_command(remix)
main.add_command(search)
main.add_command(tracks)


def _with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Add --params and --set; the command gets ``settings``."""

    def with_settings(params: Path | None, overrides: tuple[str, ...], **arguments: Any) -> None:
        from fxnorm.io import outputs

        if params is None and _PARAMS.is_file():
            params = _PARAMS
        outputs.refuse_inputs([arguments.get(name) for name in ("output", "plot", "curve", "json", "report")], [params])
        command(settings=Settings.load(params, overrides), **arguments)

    with_settings.__name__, with_settings.__doc__ = command.__name__, command.__doc__
    with_settings.__dict__.update(command.__dict__)
    add_set = click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a setting.")
    add_params = click.option("--params", type=_FILE, help="Settings file; default: params.yaml, if it is there.")
    return add_params(add_set(with_settings))


def _report_left_out(skipped: dict[str, str]) -> None:
    """Name the songs that were left out, and why."""
    for song, reason in skipped.items():
        click.echo(f"left out: {song}: {reason}", err=True)


@main.command("settings")
@click.argument("files", type=_FILE, nargs=-1)
@click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Change a setting after the files."
)
@click.option("--output", type=_FILE, help="Write them into this file, such as params.yaml, instead of printing them.")
def settings_of(files: tuple[Path, ...], overrides: tuple[str, ...], output: Path | None) -> None:
    """Print the settings of all stages: the published ones with the changes of FILES, one file after the other.

    FILES have sections and keys as params.yaml and those in configs/ do. A params.yaml that was made so has DVC and
    every other command run that experiment.
    """
    from fxnorm.io import outputs
    from fxnorm.io.files import whole_file

    outputs.check(files, files=[output])
    made_of = " ".join(["fxnorm settings", *map(str, files), *(f"--set {override}" for override in overrides)])
    text = f"# {printable(made_of, 1_000)}\n{Settings.merged(files, overrides).to_yaml()}"
    if output is None:
        click.echo(text, nl=False)
        return
    with whole_file(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    click.echo(f"{output}: written")


@main.command("demo-data")
@click.argument("folder", type=_FOLDER)
@click.option("--seed", default=0, show_default=True)
@click.option("--songs", multiple=True, metavar="SPLIT=N", help="Songs of train, val, test or dry; repeatable.")
@click.option(
    "--seconds", type=(float, float), default=(20.0, 30.0), show_default=True, help="Shortest and longest song."
)
@click.option(
    "--style",
    type=click.Choice(["demo", "records", "records-check"]),
    default="demo",
    show_default=True,
    help="What the songs are like: the demo's, records in many genres, or those of a second generator to check with.",
)
@click.option("--soundfont", multiple=True, type=_FILE, help="Play records with this .sf2 file; repeatable.")
@_workers
def demo_data(
    folder: Path,
    seed: int,
    songs: tuple[str, ...],
    seconds: tuple[float, float],
    style: str,
    soundfont: tuple[Path, ...],
    workers: int,
) -> None:
    """Render a small wet and dry dataset into FOLDER; the same bytes for the same seed."""
    from fxnorm.demo import DEFAULT_SONGS, render_dataset

    counts = dict(DEFAULT_SONGS)
    for item in songs:
        split, _, number = item.partition("=")
        if split not in counts or not number.isdecimal():
            raise DatasetError(f"--songs {item}: expected SPLIT=N with a split of {', '.join(counts)}")
        counts[split] = int(number)
    render_dataset(
        folder, seed=seed, songs=counts, seconds=seconds, workers=workers or None, style=style, soundfonts=soundfont
    )


@main.command()
@click.argument("dataset", type=_FOLDER)
@click.argument("others", type=_FOLDER, nargs=-1)
@click.option("--json", type=_FILE, help="Write the findings into this .json file.")
@click.option("--report", type=_FILE, help="Write a page with pictures of what is wrong into this .html file.")
@_workers
@_with_settings
def check(
    settings: Settings, dataset: Path, others: tuple[Path, ...], json: Path | None, report: Path | None, workers: int
) -> None:
    """Read every file of DATASET and list its songs and what would spoil a training; exit status 1 if anything would.

    It finds files that cannot be read or that nothing reads, stems that do not add up to their mixture (polarity,
    delay, clock drift, another song), bleed, wrong labels, clipping, offsets, band limits, and recordings that occur
    twice, also in OTHERS. The section check of the settings has the thresholds, and says at what the status is 1.
    """
    from fxnorm.stages import check as stage

    found = stage.run(settings.check, [dataset, *others], json, report, workers)
    for line in found.lines():
        click.echo(line)
    if found.stopping:
        sys.exit(1)


@main.command()
@click.argument("dataset", type=_FOLDER)
@click.option("--val", default=0, metavar="N", help="Songs for val; its songs stay as they are if left out.")
@click.option("--test", default=0, metavar="N", help="Songs for test; likewise.")
def split(dataset: Path, val: int, test: int) -> None:
    """Move songs of DATASET into its folders val and test, and those that lie beside the splits into train.

    A hash of the songs' names decides which, so they are the same each time.
    """
    from fxnorm.stages import split as stage

    for name, songs in stage.run(dataset, val, test).items():
        click.echo(f"{name}: {', '.join(songs)}")


@main.command()
@click.argument("data", type=_FOLDER)
@click.argument("output", type=_FOLDER)
def inputs(data: Path, output: Path) -> None:
    """Note in OUTPUT which of the optional folders DATA has, for DVC; fail at once if a later stage would lack data.

    DATA holds wet songs with their splits in wet, and may hold dry songs in dry and impulse responses in
    impulse_responses.
    """
    from fxnorm.stages import inputs as stage

    stage.run(data, output)


@main.command("initial-weights")
@click.argument("output", type=_FILE)
@_with_settings
def initial_weights(settings: Settings, output: Path) -> None:
    """Note in OUTPUT (.json) which weights train.initial_weights names, for DVC; fail at once if they are not there."""
    from fxnorm.io import addresses
    from fxnorm.stages import inputs as stage

    name = settings.train.initial_weights
    if name is None or not addresses.is_address(name):  # MLflow takes seconds to import
        stage.note_initial_weights(name, output)
        return
    from fxnorm.registry import stored_weights

    with stored_weights.opened(name) as found:
        stage.note_initial_weights(None if found is None else str(found), output)


@main.command()
@click.argument("dataset", type=_FOLDER)
@click.argument("output", type=_FILE)
@click.option("--plot", type=_FILE, help="Draw the curves into this .png file.")
@_shard
@_workers
@_on_error
@_with_settings
def statistics(settings: Settings, dataset: Path, output: Path, on_error: str, **options: Any) -> None:
    """Measure the average effects of the wet songs of DATASET into OUTPUT (.npz)."""
    from fxnorm.stages import statistics as stage

    _report_left_out(stage.run(settings.statistics, dataset, output, skip_errors=on_error == "skip", **options))


@main.command("merge-statistics")
@click.argument("output", type=_FILE)
@click.argument("parts", type=_FILE, nargs=-1, required=True)
@click.option("--plot", type=_FILE, help="Draw the curves into this .png file.")
def merge_statistics(output: Path, parts: tuple[Path, ...], plot: Path | None) -> None:
    """Put PARTS, what 'fxnorm statistics --shard' made, together into OUTPUT: as if measured in one go."""
    from fxnorm.stages import statistics as stage

    stage.merge(parts, output, plot)


@main.command()
@click.argument("statistics", type=_FILE)
@click.argument("dataset", type=_FOLDER)
@_workers
def drift(statistics: Path, dataset: Path, workers: int) -> None:
    """Print how far the songs of DATASET lie from STATISTICS, in units of the spread between the songs behind those."""
    from fxnorm.stages import statistics as stage

    result = stage.drift(statistics, dataset, workers)
    for name, drifts in [*result.songs.items(), ("all together", result.together)]:
        click.echo(name)
        for effect, stems in drifts.items():
            click.echo(f"  {effect:<14}" + "".join(f"{stem:>10} {value:6.2f}" for stem, value in stems.items()))


@main.command("import-statistics")
@click.argument("source", type=_FILE)
@click.argument("output", type=_FILE)
def import_statistics(source: Path, output: Path) -> None:
    """Turn the reference implementation's SOURCE (features_*.npy) into OUTPUT (.npz); nothing in it is executed."""
    from fxnorm.io import outputs
    from fxnorm.statistics import import_reference_statistics

    outputs.check([source], files=[output])
    import_reference_statistics(source).save(output)


@main.command("import-weights")
@click.argument("checkpoint", type=_FILE)
@click.argument("output", type=_FOLDER)
@click.option(
    "--statistics", type=_FILE, required=True, help="What stems are brought to (.npz); see import-statistics."
)
@click.option("--config", type=_FILE, help="The network's settings under the reference's names (.json, .yaml).")
@click.option("--impulse-responses", type=_FOLDER, help="Impulse responses for the reverberation; else synthesized.")
@click.option("--pre-impulse-responses", type=_FOLDER, help="The same for the pre-reverb of dry recordings.")
@_with_settings
def import_weights(settings: Settings, checkpoint: Path, output: Path, **options: Any) -> None:
    """Turn the reference implementation's CHECKPOINT (a state dict) into the Mixer directory OUTPUT.

    Sizes are read off the weights; those of --config come before them. Nothing in CHECKPOINT is executed.
    """
    from fxnorm.mixing import import_weights as importing

    click.echo(f"{output}: {importing.run(settings, checkpoint, output, **options)}")


@main.command("import-reference")
@click.argument("clone", type=_FOLDER)
@click.argument("output", type=_FOLDER)
@click.option(
    "--experiment", default="ours_S_Lb", show_default=True, metavar="NAME", help="A folder in CLONE/trainings/results."
)
@click.option("--impulse-responses", type=_FOLDER, help="Impulse responses for the reverberation; else synthesized.")
@click.option("--pre-impulse-responses", type=_FOLDER, help="The same for the pre-reverb of dry recordings.")
@click.option("--register", is_flag=True, help="Register it in MLflow as well, as a version without metrics.")
@click.option("--alias", type=click.Choice(["challenger", "champion"]), help="Of the version; default: none.")
@_with_settings
def import_reference(
    settings: Settings, clone: Path, output: Path, experiment: str, register: bool, alias: str | None, **options: Any
) -> None:
    """Turn a published network into the Mixer directory OUTPUT; CLONE is of the method's reference repository.

    The averages and the weights in CLONE are read; nothing in it is executed. A front-end that was trained alone
    becomes weights for train.initial_weights.
    """
    from fxnorm.mixing import import_reference as importing

    if alias is not None and not register:
        raise SettingsError(f"--alias {alias}: only a registered version has one; add --register")
    if register:
        importing.refuse_without_mixer(experiment)
    written, origin = importing.run(settings, clone, output, experiment, **options)
    click.echo(f"{output}: {written}; {origin}")
    if register:
        from fxnorm.stages import register_imported as stage

        version = stage.run(settings, output, origin, alias)
        click.echo(f"{settings.register_.name} version {version}{f' is @{alias}' if alias else ', without an alias'}")


@main.command()
@click.argument("dataset", type=_FOLDER)
@click.argument("statistics", type=_FILE)
@click.argument("output", type=_FOLDER)
@click.option("--impulse-responses", type=_FOLDER, help="Impulse responses for the reverberation; else synthesized.")
@click.option("--pre-impulse-responses", type=_FOLDER, help="The same for the pre-reverb of dry recordings.")
@click.option(
    "--impulse-responses-in",
    "impulse_response_folder",
    type=_FOLDER,
    help="A folder that may be missing, with those in reverb and pre_reverb; each that it lacks is synthesized.",
)
@click.option("--dry", is_flag=True, help="The songs are dry recordings: the pre-reverb comes first.")
@click.option("--plot", type=_FILE, help="Draw one song before and after into this .png file.")
@_shard
@_workers
@_on_error
@_with_settings
def normalize(
    settings: Settings,
    dataset: Path,
    statistics: Path,
    output: Path,
    on_error: str,
    impulse_response_folder: Path | None,
    **options: Any,
) -> None:
    """Bring every stem of DATASET to the average effects in STATISTICS; writes OUTPUT/SPLIT/SONG/STEM.wav."""
    from fxnorm.effects.impulse_responses import folders_in
    from fxnorm.stages import normalize as stage

    if impulse_response_folder is not None:
        if options["impulse_responses"] or options["pre_impulse_responses"]:
            raise click.UsageError("expected either --impulse-responses-in or the two options for single folders")
        folders = folders_in(impulse_response_folder)
        options["impulse_responses"], options["pre_impulse_responses"] = folders
    _report_left_out(
        stage.run(settings.normalize, dataset, statistics, output, skip_errors=on_error == "skip", **options)
    )


@main.command("merge-normalized")
@click.argument("output", type=_FOLDER)
@click.argument("parts", type=_FOLDER, nargs=-1, required=True)
def merge_normalized(output: Path, parts: tuple[Path, ...]) -> None:
    """Put PARTS, what 'fxnorm normalize --shard' made, together into the new folder OUTPUT."""
    from fxnorm.stages import normalize as stage

    for song in stage.merge(parts, output):
        click.echo(f"not there: {song}: of a shard that is not among the parts, or left out in it", err=True)


@main.command()
@click.argument("normalized", type=_FOLDER)
@click.argument("address", metavar="s3://BUCKET/PREFIX|DIRECTORY")
def publish(normalized: Path, address: str) -> None:
    """Move the songs of NORMALIZED into an object store; 'fxnorm train NORMALIZED' reads them from there.

    The store may be a folder that all machines see, by its absolute path. NORMALIZED keeps the recipe and a list of the
    songs. After an interruption the same command goes on.
    """
    from fxnorm.stages import normalize as stage

    stage.publish(normalized, address)


@main.command()
@click.argument("normalized", type=_FOLDER)
@click.argument("output", type=_FOLDER)
@click.option(
    "--checkpoints",
    metavar="DIRECTORY|s3://BUCKET/KEY",
    help="Where an interrupted run goes on from; default: OUTPUT-checkpoints.",
)
@click.option("--curve", type=_FILE, help="The loss over epochs (.csv); default: OUTPUT-loss.csv.")
@click.option("--plots", type=_FOLDER, help="Pictures of earlier stages to keep with the experiment.")
@_with_settings
def train(
    settings: Settings, normalized: Path, output: Path, checkpoints: str | None, curve: Path | None, plots: Path | None
) -> None:
    """Train a network on NORMALIZED and write the Mixer directory OUTPUT."""
    from fxnorm.io import outputs
    from fxnorm.stages import train as stage

    checkpoints = checkpoints or str(outputs.named_after(output, "-checkpoints"))
    curve = curve or outputs.named_after(output, "-loss.csv")
    stage.run(settings, normalized, output, checkpoints, curve, plots)


@main.command()
@click.argument("mixer", type=_FOLDER)
@click.argument("dataset", type=_FOLDER)
@click.argument("output", type=_FOLDER)
@click.option(
    "--also",
    multiple=True,
    metavar="NAME=MIXER",
    help="Another system of the comparison, a Mixer directory, default or models:/NAME@ALIAS; repeatable.",
)
@_workers
@_with_settings
def evaluate(settings: Settings, mixer: Path, dataset: Path, output: Path, also: tuple[str, ...], workers: int) -> None:
    """Compare the mixes of MIXER with the reference mixes of DATASET (with wet/ and dry/, or one wet dataset)."""
    from fxnorm.stages import evaluate as stage

    others: dict[str, str] = {}
    for item in also:
        name, equals, path = item.partition("=")
        if not (name and equals and path) or name in others:
            raise SettingsError(f"--also {item}: expected NAME=MIXER, with a name of its own")
        others[name] = path
    for sentence in stage.run(settings, mixer, dataset, output, others, workers):
        click.echo(sentence)
    click.echo(f"{output / stage.REPORT_FILE}: the report")


@main.command()
@click.argument("mixer", type=_FOLDER)
@click.argument("report", type=_FOLDER)
@click.option("--dataset", type=_FOLDER, help="What REPORT is of: a champion that was tested on other songs is again.")
@click.option("--curve", type=_FILE, help="The loss over epochs, for a tracking server that does not have it.")
@click.option("--plots", type=_FOLDER, help="Pictures of earlier stages, likewise.")
@click.option("--once", is_flag=True, help="Keep the version of a Mixer that is registered with this report and code.")
@_with_settings
def register(settings: Settings, mixer: Path, report: Path, dataset: Path | None, **options: Any) -> None:
    """Register MIXER in MLflow, as @champion if it meets the acceptance rule; REPORT is what 'evaluate' wrote.

    A tracking server that does not know the run of MIXER gets all results of the training and the evaluation.
    """
    from fxnorm.stages import register as stage

    decision = stage.run(settings, mixer, report, dataset, **options)
    click.echo("{name} version {version} is @{alias}: {reason}".format(**decision))


@main.command()
@click.argument("output", type=_FILE)
@click.option("--registration", type=_FILE, help="What 'register' wrote last: the store is searched for it.")
def store(output: Path, registration: Path | None) -> None:
    """Write into OUTPUT to which MLflow store results go: to another, or to one that lost some, DVC brings them."""
    from fxnorm.stages import store as stage

    content = stage.run(output, registration)
    click.echo("{tracking}, experiment {experiment}".format(**content))


@main.command()
@click.argument("name", required=False)
@_with_settings
def rollback(settings: Settings, name: str | None) -> None:
    """Make the @previous version of the registered model NAME the @champion again; a second time undoes it."""
    from fxnorm.registry import aliases
    from fxnorm.tracking import runs

    runs.configure()
    name = name or settings.register_.name
    champion, replaced = aliases.rollback(name)
    before = f"; version {replaced}, the champion so far, is @previous" if replaced else ""
    click.echo(f"{name} version {champion} is @champion again{before}")


@main.command()
@click.argument("model", default="models:/fxnorm-automix@champion")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=5001, show_default=True, help="The port to listen at.")
@click.option(
    "--timeout",
    type=click.IntRange(min=1),
    envvar="MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT",
    default=600,
    show_default=True,
    show_envvar=True,
    metavar="SECONDS",
    help="Give a request up after so long.",
)
def serve(model: str, host: str, port: int, timeout: int) -> None:
    """Serve the registered MODEL with MLflow until Ctrl-C or SIGTERM; without MODEL, models:/fxnorm-automix@champion.

    The MODEL default is the Mixer that comes with the package; it needs no registry.

    The server asks nobody for a login unless FXNORM_TOKENS_FILE names tokens, and by default this machine alone reaches
    it. 'fxnorm mix --endpoint' sends stems to it.
    """
    from fxnorm.cli import endpoint

    endpoint.serve_command(model, host, port, timeout, os.environ).replace_process()


def _stem_options(command: Callable[..., None]) -> Callable[..., None]:
    for stem in reversed(STEMS):
        command = click.option(f"--{stem}", metavar="FILE", help=f"The {stem} stem: WAV, FLAC, MP3, …, or s3://…")(
            command
        )
    return command


@main.command()
@click.argument("mixer", required=False)
@_stem_options
@click.option("--endpoint", metavar="URL", help="Have a served Mixer mix the stems, such as http://127.0.0.1:5001.")
@click.option("--output", required=True, type=_FILE, help="The mix, .wav, .flac or .mp3.")
@click.option(
    "--tracks",
    type=_FILE,
    metavar="FOLDER|FILE",
    help="Instead of stems, the tracks of a recording session: a folder, or the table that 'fxnorm tracks' writes.",
)
@click.option(
    "--dry/--wet",
    default=None,
    help="They are recordings without effects, or stems of a finished mix. Default: stems are wet, tracks are dry.",
)
@click.option("--seed", type=int, help="Draws the normalization's impulse responses; default: the training's seed.")
@click.option("--song", metavar="NAME", help="Reverberation of its own, as evaluation gives the song of this name.")
@click.option(
    "--keep",
    type=click.Choice(["panning", "dynamics"]),
    help="Leave the panning or the dynamics of the stems as they are.",
)
@click.option(
    "--reference",
    metavar="FILE",
    help="Bring loudness, thirds of an octave, width and dynamics of the mix to those of this song.",
)
@click.option(
    "--alternatives",
    type=click.IntRange(2, 12),
    metavar="N",
    help="Mix in N ways: the others go beside OUTPUT, and a comparison into OUTPUT-alternatives.json.",
)
@click.option(
    "--target-loudness",
    type=float,
    metavar="LUFS",
    help="Bring the mix there by a gain and a limiter; default: the reference's, or the training mixtures' average.",
)
@click.option("--true-peak", type=float, metavar="DBTP", help="The highest true peak; default: -1.")
@click.option("--as-is", is_flag=True, help="The network's own level, with neither gain nor limiter.")
@bits_option
@click.option("--sample-rate", type=int, metavar="HZ", help="Of the mix; default: 44100.")
@click.option(
    "--stems-out", type=_FOLDER, help="Write what each stem contributes into this folder, and mix.json; see remix."
)
@click.option("--tracks-out", is_flag=True, help="Write the share of each of the --tracks into --stems-out as well.")
@click.option("--session", type=click.Choice(["reaper"]), help="A DAW's project beside what --stems-out writes.")
@click.option("--plot", type=_FILE, help="Draw spectra, loudness and reverberation into this .png or .svg file.")
@click.option("--report", type=_FILE, help="Write levels, distance from the training songs and warnings (.json).")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait so long for --endpoint.")
def mix(
    mixer: str | None,
    endpoint: str | None,
    output: Path,
    tracks: Path | None,
    dry: bool | None,
    seed: int | None,
    song: str | None,
    keep: str | None,
    reference: str | None,
    alternatives: int | None,
    target_loudness: float | None,
    true_peak: float | None,
    as_is: bool,
    bits: str | None,
    sample_rate: int | None,
    stems_out: Path | None,
    tracks_out: bool,
    session: str | None,
    plot: Path | None,
    report: Path | None,
    timeout: float | None,
    **stems: str | None,
) -> None:
    """Mix stems or tracks with MIXER, a directory or models:/NAME@ALIAS, or with the one behind --endpoint; without
    either, with the one that comes with the package, whose name is default.

    Stems left out are silent.
    """
    from fxnorm.cli.mix_tracks import inputs_of
    from fxnorm.io import outputs
    from fxnorm.mixing.options import MixOptions

    if mixer is not None and endpoint is not None:
        raise click.UsageError("expected either MIXER or --endpoint, found both")
    if endpoint is None:
        mixer = mixer or DEFAULT_MIXER
    if plot is not None and endpoint is not None:
        raise click.UsageError("--plot: an endpoint does not tell what reverberation it gave; expected MIXER")
    if stems_out is not None and endpoint is not None:
        raise click.UsageError("--stems-out: an endpoint answers with the mix alone; expected MIXER")
    if alternatives is not None and endpoint is not None:
        raise click.UsageError("--alternatives: an endpoint mixes in one way at a time; see --seed, --keep and --wet")
    if reference is not None and as_is:
        raise click.UsageError("expected either --reference or --as-is")
    if session is not None and stems_out is None:
        raise click.UsageError("--session: expected --stems-out as well")
    if tracks_out and (stems_out is None or tracks is None):
        raise click.UsageError("--tracks-out: expected --tracks and --stems-out as well")
    if plot is not None and plot.suffix.lower() not in _PICTURES:
        raise SettingsError(f"--plot {plot}: expected a file name that ends in {' or '.join(_PICTURES)}")
    given = {"dry": dry, "seed": seed, "song": song, "as_is": as_is, "bits": bits, "sample_rate": sample_rate}
    options = MixOptions.for_file(output, **given, keep=keep, target_loudness=target_loudness, true_peak=true_peak)
    sources = {stem: source for stem, source in stems.items() if source is not None}
    if tracks is not None and sources:
        raise click.UsageError("expected either --tracks or stems")
    # a folder that is no Mixer gets the error that names it as such, below
    is_mixer = mixer is not None and (Path(mixer) / _MIXER_FILE).is_file()
    inputs = [mixer if is_mixer else None, *sources.values(), *inputs_of(tracks), reference]
    compared = answers.comparison_files(output, alternatives)
    outputs.check(inputs, parts.folders(stems_out), files=[output, plot, report, *compared])
    if endpoint is not None:
        _mix_at_endpoint(endpoint, tracks or sources, options, output, report, timeout, reference)
    elif mixer is not None:
        asked_for = parts.asked_for(stems_out, mixer, session)
        _mix_here(
            mixer, tracks or sources, options, output, plot, report, asked_for, reference, alternatives, tracks_out
        )


def _mix_here(
    mixer: str,
    sources: dict[str, str] | Path,
    options: "MixOptions",
    output: Path,
    plot: Path | None,
    report: Path | None,
    parts_out: "PartsOut | None",
    reference: str | None,
    alternatives: int | None,
    tracks_out: bool,
) -> None:
    from tqdm import tqdm

    from fxnorm.cli.mix_tracks import summed
    from fxnorm.mixing.mix_files import mix_samples, read_stems

    opened = open_mixer(mixer)
    song = answers.read_reference(reference)
    groups = None
    if isinstance(sources, Path):
        options = options.for_tracks()
        if tracks_out and not opened.network.has_parts:
            raise opened.network.without_parts()
        found = summed(sources, opened.recipe.statistics)
        stems, groups, names = found.stems, found.groups, dict.fromkeys(found.stems, str(sources))
        if parts_out is not None:
            shares = found.signals(parts_out.folder, options.sample_rate) if tracks_out else None
            parts_out = replace(parts_out, tracks=found.gains, shares=shares)
    else:
        stems, names = read_stems(sources), sources
    unmixed = None
    if plot is not None:
        from fxnorm.evaluation.mix_plot import Unmixed
        from fxnorm.mixing.mixer import refuse_unusable

        refuse_unusable(stems)
        seed = opened.seed_of(options.seed, options.song)
        normalizer = opened.keeping(options.keep).recipe.normalizer()
        unmixed = Unmixed.of(stems, normalizer, seed, bool(options.dry))
    with contextlib.ExitStack() as stack:
        bars: list[tqdm] = []

        def show(done: float) -> None:
            if not bars:  # not before the stems have been read: an error is one line then
                format_ = "{l_bar}{bar}| {elapsed}<{remaining}"
                bars.append(stack.enter_context(tqdm(total=100, desc="mix", unit="%", bar_format=format_)))
            bars[0].update(round(100 * done) - bars[0].n)

        reported = report is not None
        if alternatives is None:
            made, mixed = None, mix_samples(opened, stems, options, output, show, parts_out, names, song, reported)
        else:
            from fxnorm.mixing.alternatives import mix_alternatives

            made = mix_alternatives(
                opened, stems, options, output, alternatives, show, parts_out, names, song, reported
            )
            mixed = made.first
        show(1.0)
    if plot is not None and unmixed is not None:
        from fxnorm.evaluation.mix_plot import plot_mix

        plot_mix(mixed.delivered.mix, unmixed, plot)
    if report is not None:
        from fxnorm.io.files import write_json

        content = mixed.report() | ({"groups": groups} if groups is not None else {})
        write_json(report, content | ({} if made is None else made.for_report()))
    delivered = mixed.delivered
    click.echo(f"{output}: {mixed.seconds:.1f} s, {delivered.sentence()}")
    if delivered.remark is not None:
        click.echo(f"{output}: {delivered.remark}", err=True)
    answers.report_match(output, mixed.match)
    if made is not None:
        answers.report_alternatives(output, made)
    if parts_out is not None and mixed.parts is not None:
        parts.report(parts_out.folder, mixed.parts)


def _mix_at_endpoint(
    endpoint: str,
    sources: dict[str, str] | Path,
    options: "MixOptions",
    output: Path,
    report: Path | None,
    timeout: float | None,
    reference: str | None,
) -> None:
    from fxnorm.cli.mix_tracks import summed
    from fxnorm.io.files import whole_file, write_json
    from fxnorm.mixing.client import TIMEOUT_SECONDS, files_of, request_mix

    groups = None
    stems: Mapping[str, str | bytes]
    if isinstance(sources, Path):
        options = options.for_tracks()
        found = summed(sources)
        stems, groups = files_of(found.stems), found.groups
    else:
        stems = sources
    served = request_mix(endpoint, stems, options, timeout or TIMEOUT_SECONDS, reference)
    with whole_file(output) as temporary:
        temporary.write_bytes(served.content)
    if report is not None:
        write_json(report, served.report | ({"groups": groups} if groups is not None else {}))
    for warning in served.report.get("warnings", []):
        click.echo(warning, err=True)
    click.echo(f"{output}: {served.sentence()}")
