"""What the service says of itself, and requests made from it at random: no fault, no answer that is not described."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from peftrec.serving.service import Service
from peftrec.serving.settings import ServiceSettings
from peftrec.serving.sqlite_store import SqliteStore

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
LONGEST_LINE: Final = 60_000
ROUTES = {
    "/v1/events": {"post"},
    "/v1/users/{user_id}/recommendations": {"get"},
    "/v1/users/{user_id}": {"delete"},
    "/v1/users/{user_id}/history": {"get"},
    "/v1/recommendations": {"post"},
    "/v1/explanations": {"post"},
    "/v1/service": {"get"},
    "/v1/items": {"get", "post"},
    "/v1/items/{item_id}": {"get", "put", "delete"},
    "/v1/items/{item_id}/similar": {"get"},
    "/v1/reload": {"post"},
    "/health": {"get"},
    "/ready": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="session")
def random_schema(served_run: Path, listen: Callable[[Service], str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The description of a service that listens, with which requests can be made."""
    store = tmp_path_factory.mktemp("random") / "events.db"
    found = ServiceSettings(run=served_run, store=store, rate=0, poll_seconds=0.05)
    address = listen(Service(found, SqliteStore(store, found.owner)))
    return schemathesis.openapi.from_url(f"{address}/openapi.json").exclude(path="/v1/reload")


def try_all(schema: Any, num_requests: int, *, derandomize: bool) -> None:
    """Send so many random requests to each route, some as they are described and some as they are not."""
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:

            @settings(
                max_examples=num_requests, deadline=None, derandomize=derandomize, database=None,
                suppress_health_check=list(HealthCheck), phases=(Phase.generate,),
            )  # fmt: skip
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: schemathesis.Case) -> None:
                # The server hangs up on a request line beyond its limit of 64 KiB, perhaps before it has arrived whole.
                assume(len(case.formatted_path) + len(urlencode(case.query or {}, doseq=True)) < LONGEST_LINE)
                case.call_and_validate(checks=CHECKS)

            with contextlib.suppress(Unsatisfiable):  # some routes can be asked in no wrong way
                send()


def test_random_requests(random_schema: Any) -> None:
    try_all(random_schema, 6, derandomize=True)


@pytest.mark.slow
def test_many_random_requests(random_schema: Any) -> None:
    try_all(random_schema, 400, derandomize=False)


def test_every_route_is_described_with_its_errors(shared_client: TestClient) -> None:
    described = shared_client.get("/openapi.json").json()
    assert {path: set(methods) for path, methods in described["paths"].items()} == ROUTES
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            assert {"400", "401", "404", "409", "413", "415", "422", "429", "500", "503"} <= set(answers), (
                path,
                method,
            )
            for status, answer in answers.items():
                if int(status) >= 400:
                    form = answer["content"]["application/json"]["schema"]
                    assert form == {"$ref": "#/components/schemas/ErrorAnswer"}
            assert operation["description"]
    assert "HTTPValidationError" not in described["components"]["schemas"]


def test_answers_are_as_they_are_described(shared_client: TestClient) -> None:
    """Answers are written without a second validation, so it is done here."""
    from peftrec.serving.answer import FoundAnswer, ItemAnswer, ListAnswer, PastAnswer, ServiceAnswer

    for path, form in (
        ("/v1/users/described/recommendations", ListAnswer),
        ("/v1/users/described/recommendations?explain=true&details=true&diversity=0.3&age=35", ListAnswer),
        ("/v1/users/described/history", PastAnswer),
        ("/v1/service", ServiceAnswer),
        ("/v1/items/wine0/similar", ListAnswer),
        ("/v1/items/wine0", ItemAnswer),
        ("/v1/items?query=wine", FoundAnswer),
    ):
        answer = shared_client.get(path).json()
        assert form.model_validate(answer).model_dump(exclude_unset=True) == answer
