"""Parsing and validation of request bodies against the contract."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import ErrorDetails

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.request import request_model
from churn_service.problems import Fault, Problem, fault

MOST_CUSTOMERS = 10_000
"""Most customers in one batch."""

MOST_FAULTS = 10_000
"""Most faults of one body that are listed: nobody reads more, and they cost memory."""

CUSTOMERS = "customers"


@dataclass(frozen=True)
class Batch:
    """The valid customers of a batch and the faults of the skipped ones.

    Attributes:
        customers: Valid customers, as instances of the request model.
        faults: Faults of the skipped customers.
        skipped: Number of skipped customers.
    """

    customers: Sequence[BaseModel]
    faults: Sequence[Fault] = ()
    skipped: int = 0


class RequestParser:
    """Parses request bodies by the contract.

    pydantic-core parses and validates in one pass, from bytes: it coerces nothing and finds every
    fault.

    Attributes:
        customer_model: Request model of one customer.
        batch_model: Model of `{"customers": [...]}`.
    """

    def __init__(self, contract: Contract) -> None:
        self.customer_model = request_model(contract)
        self.batch_model = _batch_model(self.customer_model)
        self._customer = self.customer_model.__pydantic_validator__
        self._batch = self.batch_model.__pydantic_validator__

    def parse_customer(self, body: bytes) -> BaseModel:
        """Parses one customer.

        Raises:
            Problem: `malformed`, or `validation` with every fault.
        """
        try:
            customer: BaseModel = self._customer.validate_json(body)
        except ValidationError as error:
            raise _problem(error) from None
        return customer

    def parse_batch(self, body: bytes, *, skip: bool) -> Batch:
        """Parses a batch of customers.

        Args:
            body: JSON with 1 to `MOST_CUSTOMERS` customers.
            skip: Whether to skip faulty customers instead of refusing the batch.

        Raises:
            Problem: `malformed`, or `validation` with every fault of every customer. Of more than
                `MOST_FAULTS` faults only the first are listed. With `skip`, validation is raised
                only where the batch itself is invalid, no customer is valid, or there are more
                than `MOST_FAULTS` faults.
        """
        self._refuse_unknown_fields(body)
        try:
            return Batch(self._batch.validate_json(body).customers)
        except ValidationError as error:
            result = self._skip_or_refuse(body, error, skip=skip)
        if isinstance(result, Problem):
            # The traceback refers to the local variable that holds the exception: without `del`,
            # reference counting would never free them.
            try:
                raise result
            finally:
                del result
        return result

    def _refuse_unknown_fields(self, body: bytes) -> None:
        """Refuses a body with very many unknown fields: pydantic would list each of them."""
        most = 2 * len(self.customer_model.model_fields)
        # Texts may contain colons too: only a body with very many is examined closely.
        if body.count(b":") <= most * max(2, body.count(b"{")):
            return
        batch = _parse_object(body)
        customers = [customer for customer in _customers(batch) if isinstance(customer, dict)]
        fields = len(batch) + sum(map(len, customers))
        if fields > most * (1 + len(customers)):
            noun = f"{len(customers)} customers have {fields} fields"
            raise Problem("validation", f"the body breaks the contract: {noun}")

    def _skip_or_refuse(
        self, body: bytes, error: ValidationError, *, skip: bool
    ) -> Batch | Problem:
        """The valid customers of a batch with faults, or the problem that refuses it."""
        customers = _customers(_parse_object(body))
        if (count := error.error_count()) > MOST_FAULTS:
            return self._first_faults(customers, count)
        problem = _problem(error)
        problem.customers = len(customers)
        locations = [details["loc"] for details in _error_details(error)]
        # (customers, index, ...) locates a fault of one customer, a shorter tuple one of the batch.
        faulty = {location[1] for location in locations if len(location) > 1}
        valid = [customer for i, customer in enumerate(customers) if i not in faulty]
        if not skip or not valid or any(len(location) < 2 for location in locations):
            return problem
        return Batch(self._validate_again(valid), problem.faults, len(faulty))

    def _first_faults(self, customers: list[Any], count: int) -> Problem:
        """The faults of the first customers, where a batch has too many to list."""
        detail = f"the body breaks the contract: {count} problems"
        first = customers[: max(1, MOST_FAULTS * len(customers) // count)]
        try:
            self._validate_again(first)
        except ValidationError as error:
            faults = [fault(details) for details in _error_details(error)[:MOST_FAULTS]]
            detail += f"; the first {len(faults)} are listed"
            return Problem("validation", detail, faults, len(customers))
        return Problem("validation", detail, customers=len(customers))

    def _validate_again(self, customers: list[Any]) -> Sequence[BaseModel]:
        # As JSON, because pydantic validates Python values by other rules.
        body = pydantic_core.to_json({CUSTOMERS: customers})
        validated: Sequence[BaseModel] = self._batch.validate_json(body).customers
        return validated


def _batch_model(customer: type[BaseModel]) -> type[BaseModel]:
    # Strict, and without values in its errors, like the model of one customer.
    config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
    limits = Field(
        min_length=1, max_length=MOST_CUSTOMERS, description="Customers, scored independently"
    )
    return create_model(
        "Customers",
        __config__=config,
        __doc__="Customers to be scored together.",
        customers=(list[customer], limits),  # type: ignore[valid-type]
    )


def _problem(error: ValidationError) -> Problem:
    errors = _error_details(error)
    if errors[0]["type"] == "json_invalid":
        return Problem("malformed", f"the body is not JSON: {errors[0]['msg']}")
    faults = [fault(details) for details in errors]
    noun = "problem" if len(faults) == 1 else "problems"
    return Problem("validation", f"the body breaks the contract: {len(faults)} {noun}", faults)


def _parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; empty where it has none, which pydantic reports."""
    try:
        batch = pydantic_core.from_json(body)
    except ValueError:
        return {}
    return batch if isinstance(batch, dict) else {}


def _customers(batch: dict[str, Any]) -> list[Any]:
    customers = batch.get(CUSTOMERS)
    return customers if isinstance(customers, list) else []


def _error_details(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False)
