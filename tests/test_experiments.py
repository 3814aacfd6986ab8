"""The loop of experiments as a person goes through it: two queued and run at once, one in a workspace of its own, one
kept as a commit and one as a branch, all compared in DVC and in MLflow's pages; then the folder is moved.
"""

import contextlib
import csv
import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from fxnorm.io.folders import files_below
from tests import servers
from tests.browser import Browser
from tests.project import Project
from tests.test_moved_project import addresses, files
from tests.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.slow]

MODEL = "models:/fxnorm-automix@champion"
NAMES = {"queued-1": 1, "queued-2": 2, "temporary": 3}
"""DVC's experiments -> their seeds."""
SHORT = {"batches_per_epoch": 1, "warm_up_batches": 1, "schedule": [{"epochs": 1, "learning_rate": 1e-3}]}


@pytest.fixture(scope="module")
def moved(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project with all experiments, where it lies in the end; it has the store that is taken when none is named."""
    folder = tmp_path_factory.mktemp("experiments") / "project"
    shutil.copytree(project.folder, folder, symlinks=True)
    made = Project(folder)
    del made.environment["MLFLOW_TRACKING_URI"]
    shutil.rmtree(folder / "data/dry")  # half of each evaluation's time
    made.run("dvc", "add", "-q", "data")
    made.commit("before")
    made.set("train", **SHORT)
    made.set("register", force=True)  # a champion is needed
    seeds = ("--set-param", "train.seed=range(1,3)")
    made.run("dvc", "exp", "run", "--queue", "--name", "queued", *seeds, "evaluate")
    made.run("dvc", "queue", "start", "--jobs", "2")
    done = made.run("dvc", "exp", "run", "--temp", "--name", "temporary", "--set-param", "train.seed=3")
    assert made.stages_run(done) == ["train", "evaluate", "register"], "what is the same is taken from the cache"
    wait_for_queue(made)
    made.run("dvc", "exp", "apply", "temporary")
    made.commit("The third seed")
    made.run("dvc", "exp", "branch", "queued-1", "kept")
    made.folder = folder.rename(tmp_path_factory.mktemp("moved") / "Größe 100% #1")
    return made


def wait_for_queue(project: Project) -> None:
    """Until both experiments have ended, and the processes that ran them too."""

    def over() -> bool:
        listed = project.run("git", "for-each-ref", "refs/exps").count("/queued-")
        return listed >= 2 and not processes_in(project.folder)

    until(over, lambda: project.run("dvc", "queue", "status"))


def processes_in(folder: Path) -> list[str]:
    """Processes that work in a folder or below it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append(process.name)
    return found


@pytest.fixture(scope="module")
def pages(moved: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of MLflow's pages, started as the documentation says."""
    log = tmp_path_factory.mktemp("pages") / "log"
    with contextlib.ExitStack() as stack:
        with contextlib.chdir(moved.folder):
            address = stack.enter_context(servers.mlflow_on("sqlite:///mlflow.db", [], log))
        yield address


@pytest.fixture(scope="module")
def tracked(pages: str) -> dict[str, Run]:
    """The experiments' runs by their names in DVC."""
    client = mlflow.MlflowClient(pages)
    experiment = client.get_experiment_by_name("fxnorm")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1 + len(NAMES), "and that of before"
    return {run.data.tags["dvc.experiment"]: run for run in runs if "dvc.experiment" in run.data.tags}


def test_every_experiment_is_one_run_of_the_projects_store_with_its_files(
    moved: Project, pages: str, tracked: dict[str, Run]
) -> None:
    assert {name: int(run.data.params["train.seed"]) for name, run in tracked.items()} == NAMES
    before = moved.run("git", "rev-parse", "HEAD~1").strip()
    assert {run.data.tags["dvc.baseline"] for run in tracked.values()} == {before}
    assert {run.info.status for run in tracked.values()} == {"FINISHED"}
    client = mlflow.MlflowClient(pages)
    with contextlib.chdir(moved.folder):  # to which the store's addresses of files are relative
        for run in tracked.values():
            assert "<html" in Path(client.download_artifacts(run.info.run_id, "evaluation/report.html")).read_text()
    champion = client.get_model_version_by_alias("fxnorm-automix", "champion")
    assert champion.run_id == tracked["temporary"].info.run_id


def test_dvc_shows_the_experiments_by_a_few_numbers_and_compares_commits_and_branches(
    moved: Project, tracked: dict[str, Run]
) -> None:
    options = ("--only-changed", "--drop", "^(artifacts|reports|fxnorm)/", "--num", "2")
    table = moved.run("dvc", "exp", "show", "--csv", *options)
    rows = {row["Experiment"]: row for row in csv.DictReader(table.splitlines()) if row["Experiment"]}
    assert set(rows) == {"queued-1", "queued-2", "temporary"}
    for name, row in rows.items():
        run = tracked[name]
        assert row["mlflow_run"] == run.info.run_id
        assert row["train.seed"] == run.data.params["train.seed"]
        loss = run.data.metrics["test_wet.crafx2.stereo_loss_b_matched"]
        assert float(row["test_wet.stereo_loss_b_matched"]) == pytest.approx(loss)
        assert len(row) <= 6 + 12 + 1 + 6, "about the experiment, headlines, the run, parameters"
    compared = json.loads(moved.run("dvc", "metrics", "diff", "--json", "main", "kept"))
    loss_of = {
        "old": tracked["temporary"].data.metrics["test_wet.crafx2.stereo_loss_b_matched"],
        "new": tracked["queued-1"].data.metrics["test_wet.crafx2.stereo_loss_b_matched"],
    }
    changed = compared["reports/headline.json"]["test_wet.stereo_loss_b_matched"]
    assert {key: changed[key] for key in loss_of} == pytest.approx(loss_of)
    moved.run("dvc", "plots", "diff", "main", "kept")
    page = (moved.folder / "dvc_plots/index.html").read_text()
    for branch in ("main", "kept"):
        assert f"static/{branch}_reports_plots_test_wet.svg" in urllib.parse.unquote(page)
        assert (moved.folder / f"dvc_plots/static/{branch}_reports_plots_test_wet.svg").is_file()


def test_mlflows_pages_have_every_run_once_and_put_side_by_side_what_differs(
    pages: str, tracked: dict[str, Run], browser: Browser
) -> None:
    def is_whole() -> bool:
        text = browser.run("return document.body.innerText")
        return "4 matching runs" in text and all(str(run.info.run_name) in text for run in runs)

    runs = [tracked[name] for name in NAMES]
    experiment = runs[0].info.experiment_id
    browser.open(f"{pages}/#/experiments/{experiment}/runs", width=2400)
    browser.wait(is_whole, "no list of four runs")
    links = [link.get_attribute("href") or "" for link in browser.find_all("a[href*='/runs/']")]
    assert [sum(run.info.run_id in link for link in links) for run in runs] == [1, 1, 1]
    query = {"runs": [run.info.run_id for run in runs], "experiments": [experiment]}
    encoded = urllib.parse.urlencode({key: json.dumps(value) for key, value in query.items()})
    browser.run("location.hash = arguments[0]", f"#/compare-runs?{encoded}")
    switch = "button[aria-label='Parameters - Show diff only']"
    browser.wait(lambda: browser.find_all(switch), "no comparison")
    browser.find(switch).click()
    about, parameters, *_ = browser.run("""
        const texts = (cells) => Array.from(cells).map((cell) => cell.innerText.trim());
        const tables = document.querySelectorAll("table.mlflow-compare-run-table");
        return Array.from(tables).map((table) => Array.from(table.rows).map((row) => texts(row.cells)));""")
    assert about[0] == ["Run ID:", *(run.info.run_id for run in runs)]
    assert parameters == [["train.seed", "1", "2", "3"]]


def versions(project: Project) -> list[str]:
    with contextlib.chdir(project.folder):
        found = mlflow.MlflowClient("sqlite:///mlflow.db").search_model_versions("name = 'fxnorm-automix'")
    return sorted(str(version.version) for version in found)


def test_the_registered_model_mixes_in_the_copy_without_the_original(project: Project, moved: Project) -> None:
    before = files(project.folder / "mlartifacts")
    (song,) = (moved.folder / "data/wet/test").iterdir()
    moved.run("fxnorm", "mix", MODEL, "--bass", str(song / "bass.wav"), "--output", "mix.flac")
    assert not [address for address in addresses(moved.folder) if str(project.folder) in address]
    moved.run("mlflow", "artifacts", "download", "--artifact-uri", MODEL, "--dst-path", "model")
    assert (moved.folder / "model/artifacts/mixer/mixer.json").is_file()
    assert files(project.folder / "mlartifacts") == before


def test_nothing_that_travels_names_the_folder_that_it_was_made_in(project: Project, moved: Project) -> None:
    made_in = str(project.folder).encode()
    own = (".git", ".dvc", "mlflow.db", "server.log", "model", "__pycache__")
    travelling = [path for path in files(moved.folder) if path.relative_to(moved.folder).parts[0] not in own]
    # in MLmodel, MLflow notes where it put a model, and does not look there
    assert not [path for path in travelling if path.name != "MLmodel" and made_in in path.read_bytes()]
    links = [path for path in moved.folder.rglob("*") if path.is_symlink() and ".dvc" not in path.parts]
    assert {path.parent for path in links} <= {moved.folder / "fxnorm"}, "of the code, to its neighbours"
    assert not [path for path in links if path.readlink().is_absolute()]


def test_results_are_brought_to_the_store_that_is_named_and_nothing_is_registered_twice(
    moved: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = versions(moved)
    with servers.mlflow(tmp_path_factory.mktemp("server")) as address:
        moved.environment["MLFLOW_TRACKING_URI"] = address
        assert moved.stages_run(moved.run("dvc", "repro")) == ["register"]
        client = mlflow.MlflowClient(address)
        experiment = client.get_experiment_by_name("fxnorm")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert run.data.params["train.batch_size"] == "2"
        assert run.data.tags["git.commit"] == moved.run("git", "rev-parse", "HEAD~1").strip()
        assert "nearer to the reference" in run.data.tags["mlflow.note.content"]
        metrics = json.loads((moved.folder / "reports/metrics.json").read_text())
        assert (
            run.data.metrics["test_wet.crafx2.stereo_loss_b_matched"]
            == metrics["test_wet"]["crafx2"]["stereo_loss_b_matched"]
        )
        curve = (moved.folder / "artifacts/loss.csv").read_text().splitlines()[1:]
        assert len(client.get_metric_history(run.info.run_id, "validation/loss")) == len(curve)
        assert run.inputs is not None
        assert {item.dataset.name for item in run.inputs.dataset_inputs} == {"wet/train+val", "test_wet"}
        fetched = Path(client.download_artifacts(run.info.run_id, ""))
        for name in ("params.yaml", "loss.csv", "model_card.md", "plots/statistics.png", "evaluation/songs.json"):
            assert (fetched / name).is_file(), name
        for kind in ("mixes", "plots"):
            left = {path.relative_to(moved.folder / "reports") for path in files_below(moved.folder / "reports" / kind)}
            assert left == {path.relative_to(fetched / "evaluation") for path in files(fetched / "evaluation" / kind)}
        assert client.get_model_version_by_alias("fxnorm-automix", "champion").run_id == run.info.run_id
        (song,) = (moved.folder / "data/wet/test").iterdir()
        moved.run("fxnorm", "mix", MODEL, "--bass", str(song / "bass.wav"), "--output", "there.flac")
        assert moved.stages_run(moved.run("dvc", "repro")) == []
        del moved.environment["MLFLOW_TRACKING_URI"]
        assert moved.stages_run(moved.run("dvc", "repro")) == ["register"]
        assert versions(moved) == here
        assert len(client.search_model_versions("name = 'fxnorm-automix'")) == 1
