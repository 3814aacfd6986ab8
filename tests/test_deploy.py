"""What ``deploy/`` says about the services agrees with itself and with the code."""

import configparser
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import requests
import yaml

from fxnorm.cli.pipeline import pipeline
from fxnorm.components.stages import IMAGE
from fxnorm.pipeline.cluster import Cluster
from fxnorm.pipeline.parameters import Parameters
from fxnorm.serving.metrics import Metrics
from tests import servers
from tests.metrics import dashboard_queries, parsed

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs/cluster.md"
KUBERNETES = DEPLOY / "kubernetes"
STORES = KUBERNETES / "stores"
SECRETS = KUBERNETES / "pipeline"
MONITORING = DEPLOY / "monitoring"
WATCHING = ("prometheus", "grafana")
"""Services of the profile ``monitoring``, which are on one machine alone."""
EXAMPLES = sorted(DEPLOY.rglob("*.example"))
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|TOKEN", re.IGNORECASE)


def _compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return content


def _kustomization(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    return content


def _manifests() -> list[dict[str, Any]]:
    names = _kustomization(STORES)["resources"]
    return [item for name in names for item in yaml.safe_load_all((STORES / name).read_text(encoding="utf-8"))]


def _pods() -> Iterator[dict[str, Any]]:
    for item in _manifests():
        if item["kind"] in ("Deployment", "StatefulSet"):
            yield item["spec"]["template"]["spec"]


def _containers() -> list[dict[str, Any]]:
    return [container for pod in _pods() for container in (*pod.get("initContainers", ()), *pod["containers"])]


def _example(path: Path) -> dict[str, str]:
    """Names and values of an example of variables."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _pinned(package: str) -> str:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))


def _server_command() -> list[str]:
    """What MLflow's image runs."""
    text = (DEPLOY / "mlflow/Containerfile").read_text(encoding="utf-8").replace("\\\n", "")
    found: list[str] = json.loads(text.rsplit("CMD ", 1)[1])
    return found


def test_the_pipeline_s_secrets_have_the_keys_that_its_tasks_read() -> None:
    generated = {item["name"]: item for item in _kustomization(SECRETS)["secretGenerator"]}
    assert set(generated) == {secret.name for secret in Cluster().secrets}
    assert _kustomization(SECRETS)["generatorOptions"]["disableNameSuffixHash"]
    for cluster in (Cluster(), Cluster.load(KUBERNETES / "cluster.yaml")):
        for secret in cluster.secrets:
            assert set(_example(SECRETS / f"{secret.name}.env.example")) == set(secret.keys)
    for name, item in generated.items():
        assert item["envs"] == [f"{name}.env"]


def test_the_example_s_secrets_are_those_of_the_code_and_one_for_git() -> None:
    found = {secret.name: secret.keys for secret in Cluster.load(KUBERNETES / "cluster.yaml").secrets}
    assert {name: found[name] for name in found if name != "fxnorm-git"} == {
        secret.name: secret.keys for secret in Cluster().secrets
    }
    assert set(found["fxnorm-git"].values()) == {"GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_CONFIG_VALUE_0"}


def test_the_example_s_parameters_fit_and_their_checkpoints_have_a_bucket() -> None:
    address = Parameters.load(KUBERNETES / "parameters.yaml").checkpoints
    made = next(container for container in _containers() if container["name"] == "buckets")["command"]
    assert made == _compose()["services"]["buckets"]["command"]
    assert address.removeprefix("s3://").split("/")[0] in made
    destination = _server_command()[_server_command().index("--artifacts-destination") + 1]
    assert destination.removeprefix("s3://") in made


def test_the_stores_read_every_secret_they_are_given_and_no_other() -> None:
    used = {
        (variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"])
        for container in _containers()
        for variable in container.get("env", ())
        if "valueFrom" in variable
    }
    (generated,) = _kustomization(STORES)["secretGenerator"]
    assert _kustomization(STORES)["generatorOptions"]["disableNameSuffixHash"]
    assert used == {(generated["name"], key) for key in _example(STORES / "stores.env.example")}


def test_compose_takes_its_passwords_from_variables_of_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required == set(_example(DEPLOY / ".env.example")) == set(_example(STORES / "stores.env.example"))


def test_nothing_secret_is_written_down() -> None:
    for path in EXAMPLES:
        for name, value in _example(path).items():
            # an example has addresses, but nothing that opens them
            assert not value or not _SECRET_NAME.search(name), f"{path}: {name}"
    for container in _containers():
        for variable in container.get("env", ()):
            assert "valueFrom" in variable or not _SECRET_NAME.search(variable["name"]), variable["name"]
    for service in _compose()["services"].values():
        for name, value in service.get("environment", {}).items():
            assert value.startswith("${") or not _SECRET_NAME.search(name), name
    configuration = configparser.ConfigParser()
    configuration.read(DEPLOY / "mlflow/auth.ini")
    assert not any(_SECRET_NAME.search(name) for name in configuration["mlflow"])


def test_git_ignores_filled_in_secrets_but_not_their_examples() -> None:
    def ignored(path: Path) -> bool:
        return subprocess.run(["git", "check-ignore", "--quiet", str(path)], cwd=ROOT, check=False).returncode == 0

    assert len(EXAMPLES) == 7
    for example in EXAMPLES:
        assert ignored(example.with_suffix("")), f"{example.with_suffix('')} would be committed"
        assert not ignored(example)


def test_images_are_pinned_and_the_same_everywhere() -> None:
    services = {name: service for name, service in _compose()["services"].items() if name not in WATCHING}
    (replaced,) = _kustomization(STORES)["images"]
    ours = f"{replaced['newName']}:{replaced['newTag']}"
    in_compose = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["image"]) for name, service in services.items()}
    in_kubernetes = {
        container["name"]: ours if container["image"] == replaced["name"] else container["image"]
        for container in _containers()
    }
    assert {name: image for name, image in in_compose.items() if name not in ("page", "serving")} == in_kubernetes
    assert in_compose["serving"] == IMAGE
    watching = [_compose()["services"][name]["image"] for name in WATCHING]
    for image in [*in_compose.values(), *watching, Cluster.load(KUBERNETES / "cluster.yaml").image]:
        assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+", image), f"{image}: expected a version as the tag"
    assert Cluster.load(KUBERNETES / "cluster.yaml").image.split(":")[1] == IMAGE.split(":")[1]


def test_the_tracking_server_s_version_is_the_client_s() -> None:
    requirements = (DEPLOY / "mlflow/requirements.txt").read_text(encoding="utf-8")
    version = _pinned("mlflow")
    assert f"mlflow=={version}\n" in requirements
    assert _kustomization(STORES)["images"][0]["newTag"] == version
    containerfile = (DEPLOY / "mlflow/Containerfile").read_text(encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    for text in (containerfile, page):
        assert set(re.findall(r"fxnorm-mlflow:([\d.]+)", text)) == {version}
    assert f"MLflow {version}" in page


def test_every_manifest_is_used_and_every_named_file_is_there() -> None:
    resources = _kustomization(STORES)["resources"]
    assert set(resources) == {path.name for path in STORES.glob("*.yaml")} - {"kustomization.yaml"}
    kinds = [(item["kind"], item["metadata"]["name"]) for item in _manifests()]
    assert len(set(kinds)) == len(kinds)
    assert [name for kind, name in kinds if kind == "Namespace"] == [_kustomization(STORES)["namespace"]]


def test_services_lead_to_their_pods_and_clients_to_the_services() -> None:
    items = {(item["kind"], item["metadata"]["name"]): item for item in _manifests()}
    namespace = _kustomization(STORES)["namespace"]
    addresses = []
    for (kind, name), item in items.items():
        if kind != "Service":
            continue
        workload = items.get(("Deployment", name)) or items[("StatefulSet", name)]
        assert workload["spec"]["template"]["metadata"]["labels"] == item["spec"]["selector"]
        (port,) = item["spec"]["ports"]
        named = {
            port["name"]: port["containerPort"]
            for port in workload["spec"]["template"]["spec"]["containers"][0]["ports"]
        }
        assert named[port["targetPort"]] == port["port"]
        addresses.append(f"http://{name}.{namespace}.svc:{port['port']}")
        policy = items[("NetworkPolicy", name)]["spec"]
        assert policy["podSelector"]["matchLabels"] == item["spec"]["selector"]
        assert [allowed["port"] for rule in policy["ingress"] for allowed in rule["ports"]] == [port["port"]]
    tracking = _example(SECRETS / "fxnorm-mlflow.env.example")["tracking_uri"]
    assert tracking in addresses
    assert _example(SECRETS / "fxnorm-s3.env.example")["endpoint_url"] in addresses
    mlflow = next(container for container in _containers() if container["name"] == "mlflow")
    allowed = next(item["value"] for item in mlflow["env"] if item["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS")
    assert tracking.removeprefix("http://") in allowed.split(",")


def test_containers_run_without_rights_within_bounds_and_are_watched() -> None:
    for pod in _pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    for container in _containers():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
    for name, service in _compose()["services"].items():
        assert "healthcheck" in service or name == "buckets"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_page_names_options_and_files_that_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    submit = pipeline.commands["submit"]
    known = {option for parameter in submit.params if isinstance(parameter, click.Option)
             for option in (*parameter.opts, *parameter.secondary_opts)}  # fmt: skip
    calls = re.findall(r"fxnorm pipeline submit (.*?)\n(?!    )", text, re.DOTALL)
    assert len(calls) == 2
    for call in calls:
        assert set(re.findall(r"(?<!\S)--[\w-]+", call)) <= known
    for path in set(re.findall(r"deploy/[\w./-]+[\w]", text)):
        assert (ROOT / path).exists() or (ROOT / f"{path}.example").exists(), path


def test_buckets_are_made_once(tmp_path: Path) -> None:
    script = [sys.executable, str(DEPLOY / "mlflow/make_buckets.py"), "mlflow", "fxnorm"]
    with servers.s3(tmp_path / "s3.log", "fxnorm") as store:
        for expected in ("mlflow: made\nfxnorm: is there\n", "mlflow: is there\nfxnorm: is there\n"):
            made = subprocess.run(script, env=os.environ | store, check=True, capture_output=True, text=True)
            assert made.stdout == expected
        names = [bucket["Name"] for bucket in servers.s3_client(store).list_buckets()["Buckets"]]
    assert sorted(names) == ["fxnorm", "mlflow"]


FLASK_WTF = """
class CSRFProtect:
    def init_app(self, app): pass
"""
"""In place of Flask-WTF, which guards forms of the UI and is in the server's image alone."""


@pytest.fixture
def auth(tmp_path: Path) -> dict[str, str]:
    """The environment of MLflow's server with logins, in a database of its own."""
    (tmp_path / "flask_wtf").mkdir()
    (tmp_path / "flask_wtf/__init__.py").write_text("")
    (tmp_path / "flask_wtf/csrf.py").write_text(FLASK_WTF)
    text = (DEPLOY / "mlflow/auth.ini").read_text(encoding="utf-8")
    database = f"sqlite:///{tmp_path / 'auth.db'}"
    (tmp_path / "auth.ini").write_text(text.replace("postgresql+psycopg2:///mlflow", database), encoding="utf-8")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        "PYTHONPATH": str(tmp_path),
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "a-long-password-1",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-secret-key",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def test_the_endpoint_s_login_fetches_the_champion_and_moves_nothing(auth: dict[str, str], tmp_path: Path) -> None:
    """The kind: who only reads has a right to change. A registered model is code, and what is @champion is served."""
    auth |= {"MLFLOW_READER_USERNAME": "reader", "MLFLOW_READER_PASSWORD": "a-long-password-2"}
    port = servers.free_port()
    command = [sys.executable, str(DEPLOY / "mlflow/logins.py"), sys.executable, "-m", "mlflow", "server"]
    command += ["--app-name", "basic-auth", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    with servers.running(command, port, tmp_path / "server.log", auth, cwd=tmp_path):
        api = f"http://127.0.0.1:{port}/api/2.0"
        admin, reader = ("admin", "a-long-password-1"), ("reader", "a-long-password-2")

        def ask(login: tuple[str, str] | None, method: str, path: str, **json: str) -> int:
            return requests.request(method, f"{api}/{path}", auth=login, json=json or None, timeout=60).status_code

        model = {"name": "model"}
        assert ask(admin, "POST", "mlflow/registered-models/create", **model) == 200
        source = {**model, "source": "s3://bucket/model"}
        assert ask(admin, "POST", "mlflow/model-versions/create", **source) == 200
        champion = {**model, "alias": "champion", "version": "1"}
        assert ask(admin, "POST", "mlflow/registered-models/alias", **champion) == 200
        assert ask(reader, "GET", "mlflow/registered-models/alias?name=model&alias=champion") == 200
        assert ask(reader, "GET", "mlflow/model-versions/get-download-uri?name=model&version=1") == 200
        assert ask(reader, "POST", "mlflow/registered-models/alias", **champion) == 403
        assert ask(reader, "DELETE", "mlflow/registered-models/alias?name=model&alias=champion") == 403
        assert ask(reader, "POST", "mlflow/model-versions/create", **source) == 403
        assert ask(reader, "DELETE", "mlflow/registered-models/delete", **model) == 403
        assert ask(None, "GET", "mlflow/registered-models/alias?name=model&alias=champion") == 401


@pytest.mark.parametrize(
    "name, password, said",
    [
        ("reader", "", "expected both or none"),
        ("", "word", "expected both or none"),
        ("admin", "word", "administrator"),
    ],
)
def test_a_reader_s_login_that_would_be_none_stops_the_server(
    auth: dict[str, str], name: str, password: str, said: str
) -> None:
    auth |= {"MLFLOW_READER_USERNAME": name, "MLFLOW_READER_PASSWORD": password}
    command = [sys.executable, str(DEPLOY / "mlflow/logins.py"), "true"]
    done = subprocess.run(command, env=auth, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr


def test_who_only_reads_has_the_reader_s_login_and_no_container_the_administrator_s() -> None:
    services = _compose()["services"]
    for name, service in services.items():
        values = " ".join(map(str, service.get("environment", {}).values()))
        assert ("ADMIN" in values) == (name == "mlflow"), name
    assert services["serving"]["environment"]["MLFLOW_TRACKING_USERNAME"].startswith("${MLFLOW_READER_USERNAME")
    configuration = configparser.ConfigParser()
    configuration.read(DEPLOY / "mlflow/auth.ini")
    assert configuration["mlflow"]["default_permission"] in ("READ", "NO_PERMISSIONS")
    for page in (ROOT / "README.md", PAGE, ROOT / "serving/kserve.yaml"):
        assert "login" in page.read_text(encoding="utf-8"), page


@pytest.mark.parametrize(
    "path", [DEPLOY / "mlflow/Containerfile", ROOT / "components/Containerfile", DEPLOY / "page/Containerfile"]
)
def test_what_the_images_copy_is_not_kept_from_them(path: Path) -> None:
    kept = [
        line[1:].removesuffix("/**") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == name or source.startswith(f"{name}/") for name in kept), source


def _alerts() -> list[dict[str, Any]]:
    content = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def test_queries_ask_for_what_the_endpoint_exports() -> None:
    metrics = Metrics()
    metrics.serves("1", "code")
    metrics.shadow_nearer.labels("spectral_balance_db", "shadow")
    labels: dict[str, set[str]] = {}
    for family in parsed(metrics.text().decode()).values():
        for sample in family.samples:
            labels.setdefault(sample.name, {"instance"}).update(sample.labels)
    queries = [rule["expr"] for rule in _alerts()] + dashboard_queries(MONITORING)
    asked = set()
    for query in queries:
        names = set(re.findall(r"fxnorm_\w+", query))
        assert names <= set(labels), query
        asked |= names
        for name, matchers in re.findall(r"(fxnorm_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= labels[name], query
        known = set().union(*(labels[name] for name in names)) if names else {"job", "instance"}
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            assert set(re.findall(r"\w+", grouped)) <= known, query
        assert query.count("(") == query.count(")")
    # the histogram's other parts belong to what is asked for
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in asked}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in labels} == shown


def test_prometheus_and_grafana_are_given_the_files_that_there_are() -> None:
    services = _compose()["services"]
    assert all(services[name]["profiles"] == ["monitoring"] for name in WATCHING)
    mounted = [volume.split(":") for name in WATCHING for volume in services[name]["volumes"]]
    for source, target, *_ in mounted:
        if source.startswith("./"):
            assert (DEPLOY / source).exists(), source
            assert target.startswith("/etc/")
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))
    assert configuration["rule_files"] == ["alerts.yml"]
    (scrape,) = configuration["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": ["serving:5001"]}]
    assert "5001" in services["serving"]["command"]
    provisioning = MONITORING / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/fxnorm.yaml").read_text())["providers"]
    assert provider["options"]["path"] in {target for _, target, *_ in mounted}
    dashboard = json.loads((MONITORING / "grafana/dashboards/endpoint.json").read_text())
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == source["uid"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_alerts_say_what_to_do() -> None:
    for rule in _alerts():
        assert {"summary", "description"} == set(rule["annotations"]), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning")
    tried = (MONITORING / "alerts_test.yml").read_text()
    assert all(rule["alert"] in tried for rule in _alerts())


@pytest.mark.parametrize("command", ["check config prometheus.yml", "test rules alerts_test.yml"])
def test_prometheus_own_tool_takes_configuration_and_alerts(command: str) -> None:
    done = subprocess.run(["promtool", *command.split()], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kserve_s_pods_are_found_by_prometheus_where_they_answer() -> None:
    service = yaml.safe_load((ROOT / "serving/kserve.yaml").read_text(encoding="utf-8"))
    annotations = service["metadata"]["annotations"]
    (container,) = service["spec"]["predictor"]["containers"]
    assert annotations["prometheus.io/port"] == str(container["ports"][0]["containerPort"])
    assert annotations["prometheus.io/path"] == "/metrics"
