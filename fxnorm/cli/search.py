"""``fxnorm search``: many trainings with other settings, and what the best of them differs in."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fxnorm.search.params_file import Base

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(path_type=Path)
_PARAMS = Path("params.yaml")
_OUTPUT = Path("artifacts/search")


@click.command()
@click.argument("space", type=_FILE)
@click.argument("data", type=_FOLDER)
@click.argument("output", type=_FOLDER, required=False)
@click.option(
    "--storage",
    metavar="FILE|postgresql://…",
    envvar="FXNORM_SEARCH_STORAGE",
    show_envvar=True,
    help="Where the study is kept; default: OUTPUT/study.db. PostgreSQL is for several machines.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on this machine.")
@click.option("--trials", type=click.IntRange(min=1), help="How many trials; default: those of SPACE.")
@click.option(
    "--keep", type=click.IntRange(min=1), default=1, show_default=True, help="Of how many of the best to keep Mixers."
)
@click.option("--checkpoints", metavar="s3://BUCKET/KEY", help="Where trials go on from on another machine, too.")
@click.option("--params", type=_FILE, help="Settings file; default: params.yaml, if it is there.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a setting.")
def search(
    space: Path,
    data: Path,
    output: Path | None,
    storage: str | None,
    workers: int,
    trials: int | None,
    keep: int,
    checkpoints: str | None,
    params: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Search the settings that SPACE (YAML) varies for the lowest validation loss of a training on DATA.

    DATA is a folder with wet songs in wet (or in itself), or what 'fxnorm normalize' wrote. OUTPUT, by default
    artifacts/search/NAME with the name of SPACE, gets the best trial's Mixer, its settings (best.yaml), what they
    change in the settings file (best.diff) and a table (trials.csv).

    The same command goes on after an interruption. On another machine, with the same storage and name of OUTPUT, it
    takes part.
    """
    from fxnorm.search.space import Space

    read = Space.load(space)
    if trials is not None:
        read = read.model_copy(update={"trials": trials})
    base = _base(params, overrides)
    from fxnorm.search import prepared, run  # with PyTorch and Optuna

    read.check(base.settings, str(space))
    target = output or _OUTPUT / space.stem
    songs = prepared.Songs.of(data, base.settings, [*read.space], str(space))
    plan = run.Plan(read, base, songs, target, storage, keep, checkpoints)
    plan.check(data, str(space))
    result = run.run(plan, workers)
    for line in result.lines:
        click.echo(line)
    click.echo(f"{plan.output / 'best.diff'}: what trial {result.number} changes, validation loss {result.value:.5g}")
    if result.mixer is not None:
        click.echo(f"{result.mixer}: its Mixer")
    else:
        click.echo(f"its Mixer lies on {result.elsewhere}: run the same command there")


def _base(params: Path | None, overrides: tuple[str, ...]) -> "Base":
    from fxnorm.io import bounded
    from fxnorm.search.params_file import Base
    from fxnorm.settings import Settings

    if params is None and _PARAMS.is_file():
        params = _PARAMS
    settings = Settings.load(params, overrides)
    values = tuple((name, bounded.load_yaml(text)) for name, _, text in (item.partition("=") for item in overrides))
    if params is None:
        return Base(settings, overrides=values)
    name = os.path.relpath(params)
    text = params.read_bytes().decode("utf-8")  # with the line ends that it has
    return Base(settings, params.name if name.startswith("..") else name, text, values)
