"""What counts as the same request under an idempotency key."""

from __future__ import annotations

import pytest

from sync_pipeline_tests.sandbox.stripe.conftest import Sandbox
from sync_pipeline_tests.sandbox.stripe.test_requests import error, raw

FIRST = "name=A+B&address[city]=Leeds&address[country]=GB&preferred_locales[]=en&preferred_locales[]=de"


@pytest.mark.parametrize(
    "body",
    [
        "preferred_locales[]=en&preferred_locales[]=de&address[country]=GB&name=A+B&address[city]=Leeds",
        "name=A%20B&address%5Bcity%5D=Leeds&address%5Bcountry%5D=GB&preferred_locales[1]=de&preferred_locales[0]=en",
    ],
)
def test_the_same_parameters_in_another_order_or_spelling_are_replayed(sandbox: Sandbox, body: str) -> None:
    """Facts 5.4: a key is compared by parameters; the bytes they came in do not matter."""
    first = raw(sandbox, "POST", "/v1/customers", FIRST, **{"Idempotency-Key": "k"})
    again = raw(sandbox, "POST", "/v1/customers", body, **{"Idempotency-Key": "k"})
    assert first.status_code == 200
    assert (again.content, again.headers.get("Idempotent-Replayed")) == (first.content, "true")
    assert len(sandbox.v1.customers.list().data) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/customers?expand[]=tax_ids", FIRST),
        ("/v1/customers?name=A+B", FIRST.removeprefix("name=A+B&")),
        ("/v1/products", FIRST),
        ("/v1/customers", FIRST.replace("]=en", "]=fr")),
        ("/v1/customers", FIRST.replace("[]=en", "[1]=en").replace("[]=de", "[0]=de")),
    ],
)
def test_another_query_path_or_value_is_refused(sandbox: Sandbox, path: str, body: str) -> None:
    """Facts 5.4: another endpoint, query string, value or order of a list is another request."""
    assert raw(sandbox, "POST", "/v1/customers", FIRST, **{"Idempotency-Key": "k"}).status_code == 200
    refused = raw(sandbox, "POST", path, body, **{"Idempotency-Key": "k"})
    assert (refused.status_code, error(refused)["type"]) == (400, "idempotency_error")
    assert len(sandbox.v1.customers.list().data) == 1
