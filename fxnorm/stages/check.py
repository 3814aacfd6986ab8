"""Before the stages: every file of datasets read to its end, and what would spoil a training."""

from collections.abc import Sequence
from pathlib import Path

from fxnorm.data.dataset import Layout
from fxnorm.errors import DatasetError, OutputError
from fxnorm.io import bounded, outputs
from fxnorm.io.files import write_json
from fxnorm.quality import datasets, parts
from fxnorm.quality.datasets import CheckedDatasets
from fxnorm.quality.findings import in_words
from fxnorm.settings import CheckSettings

PART_FILE = "songs.json.gz"
"""What a task names the file of :func:`run_part`."""
_MOST_NAMED = 3


def run(
    settings: CheckSettings,
    roots: Sequence[Path],
    findings: Path | None = None,
    report: Path | None = None,
    workers: int = 0,
) -> CheckedDatasets:
    """Look at every folder of datasets, read every file of their songs, and write what was found.

    Args:
        settings: what is looked for, and what stops a pipeline.
        roots: the datasets: folders of splits, or of songs.
        findings: a ``.json`` file for all findings, if wanted.
        report: an ``.html`` file for a page with pictures, if wanted.
        workers: processes; 0 for one a core.

    Raises:
        DatasetError: a folder is missing or empty, or is named twice.
        OutputError: ``findings`` or ``report`` is no place to write to, or has another suffix.
    """
    for path, suffix in ((findings, ".json"), (report, ".html")):
        if path is not None and path.suffix.lower() != suffix:
            raise OutputError(f"{path}: expected a {suffix} file")
    outputs.check(roots, files=[findings, report])
    found = datasets.check(roots, settings, workers)
    _write(found, findings, report)
    return found


def run_part(settings: CheckSettings, root: Path, output: Path, workers: int = 0) -> None:
    """Read every file of some of a dataset's songs, for :func:`merge` to put what was found together.

    Args:
        settings: what is looked for.
        root: a folder with these songs alone, in the dataset's splits.
        output: the file to write.
        workers: processes; 0 for one a core.

    Raises:
        DatasetError: the folder is missing.
        OutputError: ``output`` is no place to write to.
    """
    outputs.check([root], files=[output])
    layout = Layout.read(root)
    parts.save(output, layout, datasets.check_songs(layout, settings, workers), settings.pictured_songs)


def merge(
    settings: CheckSettings, layout: Layout, files: Sequence[Path], findings: Path, report: Path
) -> CheckedDatasets:
    """Put together what parts of a dataset's songs gave, compare the songs with each other, and write what was found.

    Args:
        settings: what is looked for, and what stops a pipeline.
        layout: of the whole dataset.
        files: what :func:`run_part` wrote.
        findings: a ``.json`` file for all findings.
        report: an ``.html`` file for a page with pictures.

    Raises:
        DatasetError: a song is in no part, or a file is none of this kind.
        OutputError: ``findings`` or ``report`` is no place to write to.
    """
    outputs.check(files, files=[findings, report])
    songs = parts.load(files, layout)
    found = datasets.together([layout], [songs(song) for song in layout.present(settings.splits)], settings)
    _write(found, findings, report)
    return found


def _write(found: CheckedDatasets, findings: Path | None, report: Path | None) -> None:
    if findings is not None:
        write_json(findings, found.as_json())
    if report is not None:
        # drawing imports matplotlib, which takes longer than the check of a small dataset
        from fxnorm.quality import report as page

        page.write(report, found)


def refuse_failed(findings: Path) -> None:
    """Refuse datasets whose findings, a file that :func:`run` wrote, stop a pipeline.

    Raises:
        DatasetError: they do, or the file is none of this kind.
    """
    try:
        content = bounded.read_json(findings)
        passed, roots, numbers = content["passed"], content["datasets"], in_words(content["counts"])
        worst = [f"{one['song']}: {one['message']}" for one in content["findings"][:_MOST_NAMED]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{findings}: expected the findings of 'fxnorm check', found something else") from error
    if not passed:
        raise DatasetError(f"{', '.join(roots)}: the check found {numbers}, the worst: {'; '.join(worst)}")
