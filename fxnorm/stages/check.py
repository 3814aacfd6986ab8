"""Before the stages: every file of datasets read to its end, and what would spoil a training."""

from collections.abc import Sequence
from pathlib import Path

from fxnorm.errors import OutputError
from fxnorm.io import outputs
from fxnorm.io.files import write_json
from fxnorm.quality import datasets
from fxnorm.quality.datasets import CheckedDatasets
from fxnorm.settings import CheckSettings


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
