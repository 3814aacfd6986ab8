"""A server that speaks the part of Kubeflow Pipelines' v2beta1 API which ``submit`` uses, and is as strict as Kubeflow.

Paths, bodies and answers follow Kubeflow's published API (the models of ``kfp_server_api``) and what its server checks:
types of parameters, six cron fields or a name, concurrency, and namespaces with several users only.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

API = "/apis/v2beta1"
RUN_ID = "5d1f9d5e-2f0c-4a4b-8a55-0c8e2f1d7a11"
RECURRING_RUN_ID = "c0ffee00-8a55-4a4b-2f0c-5d1f9d5e7a11"
_TYPES = {"STRING": str, "NUMBER_INTEGER": int, "STRUCT": dict}


def task(name: str, state: str, number: int = 0, message: str = "", finished: bool = False) -> dict[str, Any]:
    """A task's details, as Kubeflow gives them; ``number`` also orders them in time."""
    details: dict[str, Any] = {
        "run_id": RUN_ID,
        "task_id": f"{name}-{number}",
        "display_name": name,
        "start_time": f"2026-01-01T00:00:{number:02d}Z",
        "state": state,
    }
    if finished:
        details["end_time"] = f"2026-01-01T00:01:{number:02d}Z"
    return details | ({"error": {"code": 2, "message": message}} if message else {})


def run(state: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An answer to the question after the run."""
    return {"run_id": RUN_ID, "state": state, "run_details": {"task_details": list(tasks)}, **more}


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@dataclass
class Kubeflow:
    """The server's state: what it knows, what it will answer, and what it was asked."""

    several_users: bool = False
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any] | int] = field(default_factory=lambda: [run("SUCCEEDED")])
    """Answers to the questions after the run, one after another, the last one for ever; a number is an HTTP error."""
    instead: tuple[int, str, str, dict[str, str]] | None = None
    """Status, content type, body and headers of every answer, for servers that are none of Kubeflow's."""
    token: str | None = None
    """The only token that is accepted."""
    requests: list[Request] = field(default_factory=list)
    address: str = ""

    def asked(self, method: str, path: str) -> list[Request]:
        return [request for request in self.requests if (request.method, request.path) == (method, API + path)]

    def answer(self, request: Request) -> tuple[int, str, str, dict[str, str]]:
        if self.instead is not None:
            return self.instead
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            return 401, "text/plain", "Unauthorized", {}
        try:
            return 200, "application/json", json.dumps(self._answer(request)), {}
        except _RefusedError as error:
            message = json.dumps({"error": str(error), "code": 3, "message": str(error), "details": []})
            return error.status, "application/json", message, {}

    def _answer(self, request: Request) -> dict[str, Any]:
        match request.method, request.path.removeprefix(API):
            case "GET", "/healthz":
                return {"multi_user": self.several_users}
            case "GET", "/experiments":
                self._check_namespace(request.query.get("namespace", [""])[0])
                (predicate,) = json.loads(request.query["filter"][0])["predicates"]
                assert (predicate["key"], predicate["operation"]) == ("display_name", 1)
                found = [known for known in self.experiments if known["display_name"] == predicate["stringValue"]]
                return {"experiments": found, "total_size": len(found)} if found else {}
            case "POST", "/experiments":
                _check_fields(request.body, kfp_server_api.V2beta1Experiment)
                self._check_namespace(request.body.get("namespace", ""))
                self.experiments.append(request.body | {"experiment_id": f"experiment-{len(self.experiments)}"})
                return self.experiments[-1]
            case "POST", "/runs":
                _check_fields(request.body, kfp_server_api.V2beta1Run)
                self._check_job(request.body)
                return request.body | {"run_id": RUN_ID, "state": "PENDING"}
            case "POST", "/recurringruns":
                _check_fields(request.body, kfp_server_api.V2beta1RecurringRun)
                self._check_job(request.body)
                _require(1 <= int(request.body["max_concurrency"]) <= 10, "max concurrency is out of range")
                cron = request.body["trigger"]["cron_schedule"]["cron"]
                _require(len(cron.split()) == 6 or cron.startswith("@"), "cron is not a supported format")
                return request.body | {"recurring_run_id": RECURRING_RUN_ID, "status": "ENABLED"}
            case "GET", path if path == f"/runs/{RUN_ID}":
                answer = self.runs.pop(0) if len(self.runs) > 1 else self.runs[0]
                if isinstance(answer, int):
                    raise _RefusedError(answer, "out for lunch")
                return answer
        raise _RefusedError(404, f"{request.method} {request.path}: Not Found")

    def _check_namespace(self, namespace: str) -> None:
        if self.several_users:
            _require(namespace == "anna", f"namespace {namespace!r} is not yours")
        else:
            _require(not namespace, "In single-user mode, a request cannot have a namespace")

    def _check_job(self, body: dict[str, Any]) -> None:
        known = [experiment["experiment_id"] for experiment in self.experiments]
        _require(body["experiment_id"] in known, "no such experiment")
        _require(body["display_name"], "a name is missing")
        spec = json_format.ParseDict(body["pipeline_spec"]["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(body["pipeline_spec"]["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        given = body["runtime_config"]["parameters"]
        inputs = spec.root.input_definitions.parameters
        _require(set(given) <= set(inputs), "unknown parameter")
        for name, definition in inputs.items():
            _require(name in given or definition.is_optional, f"parameter {name} is missing")
            kind = pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(definition.parameter_type)
            _require(name not in given or type(given[name]) is _TYPES[kind], f"parameter {name} is not a {kind}")


class _RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _require(condition: object, message: str) -> None:
    if not condition:
        raise _RefusedError(400, f"Invalid input error: {message}")


def _check_fields(body: dict[str, Any], model: type) -> None:
    unknown = set(body) - set(model.attribute_map.values())  # type: ignore[attr-defined]
    _require(not unknown, f"unknown fields {unknown}")


@contextmanager
def serve(kubeflow: Kubeflow) -> Iterator[Kubeflow]:
    """Answer on a free port of this machine for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            address = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(
                self.command, address.path, parse_qs(address.query), headers, json.loads(body) if body else None
            )
            kubeflow.requests.append(request)
            status, content_type, text, more = kubeflow.answer(request)
            self.send_response(status)
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(text)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode("ascii"))

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815  the names that http.server looks for

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing: the requests are kept."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    kubeflow.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield kubeflow
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
