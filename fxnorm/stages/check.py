"""Before the stages: every file of datasets read to its end, and what would spoil a training."""

from collections.abc import Sequence
from pathlib import Path

from fxnorm.errors import DatasetError, OutputError
from fxnorm.io import bounded, outputs
from fxnorm.io.files import write_json
from fxnorm.quality import datasets
from fxnorm.quality.datasets import CheckedDatasets
from fxnorm.quality.findings import in_words
from fxnorm.settings import CheckSettings

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
    if findings is not None:
        write_json(findings, found.as_json())
    if report is not None:
        # drawing imports matplotlib, which takes longer than the check of a small dataset
        from fxnorm.quality import report as page

        page.write(report, found)
    return found


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
