"""Load test of a running service: 10 single customers to 1 batch of ten and 1 health check.

    LOADTEST_API_KEY=churn_... locust -f benchmarks/locustfile.py --host http://127.0.0.1:3000

The customers come from the contract's own source, as CHURN_CONTRACT and the other settings of the
platform choose it. `python -m benchmarks.loadtest` serves the newest bento and runs this.
"""

import http
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from locust import FastHttpUser, events, task
from locust.env import Environment

from churn_assets.adapters.sources.choice import choose_source
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.features import requests
from churn_assets.core.data.validation import validate
from churn_assets.settings import latest_closed_month, load_settings

Customer = dict[str, Any]

API_KEY = "LOADTEST_API_KEY"
"""Environment variable with the API key, for a service that requires one."""

MOST_CUSTOMERS = 5_000
BATCH = 10
SHOWN = 200
"""Characters of a wrong response that the report shows."""

PREDICTION = {
    "customer_id": str,
    "churn_probability": float,
    "will_churn": bool,
    "risk_category": str,
    "model_version": str,
    "prediction_id": str,
    "degraded": bool,
}


@events.init.add_listener  # type: ignore[untyped-decorator]
def read_customers(environment: Environment, **_: Any) -> None:
    """Reads the customers once, for all users."""
    settings = load_settings()
    contract, month = load_contract(settings.contract), latest_closed_month()
    accepted = validate(choose_source(settings, contract).snapshot(month), contract, month).accepted
    rows = accepted.sample(n=min(MOST_CUSTOMERS, len(accepted)), random_state=0)
    environment.customers = itertools.cycle(requests(rows, contract))  # type: ignore[attr-defined]
    environment.id_name = contract.id.name  # type: ignore[attr-defined]


class Caller(FastHttpUser):
    """Sends the next request as soon as it has the response."""

    def on_start(self) -> None:
        self.customers: Iterator[Customer] = self.environment.customers
        self.id_name: str = self.environment.id_name
        key = os.environ.get(API_KEY)
        self.headers = {"Content-Type": "application/json"}
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    @task(10)
    def one(self) -> None:
        customer = next(self.customers)
        self.send("/predict", customer, lambda prediction: self.fault([customer], [prediction]))

    @task(1)
    def ten(self) -> None:
        customers = list(itertools.islice(self.customers, BATCH))
        self.send(
            "/predict/batch",
            {"customers": customers},
            lambda batch: self.fault(customers, batch["predictions"]),
        )

    @task(1)
    def health(self) -> None:
        self.send("/health", None, lambda health: "" if health["model_version"] else "no version")

    def send(self, path: str, body: Any, find_fault: Callable[[Any], str]) -> None:
        """Sends a request; a fault of the response is a failure of the test."""
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        with self.client.request(
            method, path, data=data, headers=self.headers, catch_response=True
        ) as response:
            if response.status_code != http.HTTPStatus.OK:
                response.failure(f"{response.status_code}: {(response.text or '')[:SHOWN]}")
                return
            try:
                fault = find_fault(response.json())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                fault = f"{error!r} in {response.text[:SHOWN]}"
            if fault:
                response.failure(fault)

    def fault(self, customers: Sequence[Customer], predictions: Sequence[Any]) -> str:
        """The first fault in the predictions for these customers; "" where there is none."""
        if [one["customer_id"] for one in predictions] != [one[self.id_name] for one in customers]:
            return "not the customers of the request, or not in their order"
        for one in predictions:
            if {name: type(value) for name, value in one.items()} != PREDICTION:
                return f"fields or types are not those of a prediction: {one}"
            if not 0 <= one["churn_probability"] <= 1:
                return f"churn_probability is not a probability: {one}"
        return ""
