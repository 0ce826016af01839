"""From the bytes of a body to customers, or to everything that is wrong with them."""

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
"""Customers in one batch."""

MOST_FAULTS = 10_000
"""Faults of one body that are listed; beyond it nobody reads them, and they cost memory."""

CUSTOMERS = "customers"


@dataclass(frozen=True)
class Batch:
    """The customers of a batch that can be scored, and what is wrong with the others.

    Attributes:
        customers: instances of the request model.
        faults: of the customers that are left out.
        skipped: their number.
    """

    customers: Sequence[BaseModel]
    faults: Sequence[Fault] = ()
    skipped: int = 0


class RequestParser:
    """Reads bodies by the contract.

    pydantic-core parses and checks in one pass, from bytes: nothing is coerced, and every fault is
    found at once.

    Attributes:
        customer_model: of one customer.
        batch_model: of `{"customers": [...]}`.
    """

    def __init__(self, contract: Contract) -> None:
        self.customer_model = request_model(contract)
        self.batch_model = _batch_model(self.customer_model)
        self._customer = self.customer_model.__pydantic_validator__
        self._batch = self.batch_model.__pydantic_validator__

    def parse_customer(self, body: bytes) -> BaseModel:
        """One customer.

        Raises:
            Problem: malformed, or validation with every fault.
        """
        try:
            customer: BaseModel = self._customer.validate_json(body)
        except ValidationError as error:
            raise _problem(error) from None
        return customer

    def parse_batch(self, body: bytes, *, skip: bool) -> Batch:
        """Many customers.

        Args:
            body: JSON with 1 to `MOST_CUSTOMERS` customers.
            skip: leave out faulty customers instead of refusing them all.

        Raises:
            Problem: malformed, or validation with every fault of every customer; if `skip`, only
                where the body as a whole is wrong, no customer is left, or more than
                `MOST_FAULTS` were found, of which only so many are listed then.
        """
        self._refuse_what_is_no_batch(body)
        try:
            return Batch(self._batch.validate_json(body).customers)
        except ValidationError as error:
            found = self._sorted_out(body, error, skip=skip)
        if isinstance(found, Problem):
            # A local that holds an exception, whose traceback holds the local, is never freed.
            try:
                raise found
            finally:
                del found
        return found

    def _refuse_what_is_no_batch(self, body: bytes) -> None:
        """Spares pydantic a body with very many fields that no customer has: it lists them all."""
        most = 2 * len(self.customer_model.model_fields)
        # Colons may also stand in texts: only a body with very many is looked at closely.
        if body.count(b":") <= most * max(2, body.count(b"{")):
            return
        batch = _parsed(body)
        customers = [one for one in _customers(batch) if isinstance(one, dict)]
        fields = len(batch) + sum(map(len, customers))
        if fields > most * (1 + len(customers)):
            noun = f"{len(customers)} customers have {fields} fields"
            raise Problem("validation", f"the body breaks the contract: {noun}")

    def _sorted_out(self, body: bytes, error: ValidationError, *, skip: bool) -> Batch | Problem:
        """The good customers of a batch, or what is to be said of it."""
        customers = _customers(_parsed(body))
        if (count := error.error_count()) > MOST_FAULTS:
            return self._first_faults(customers, count)
        problem = _problem(error)
        problem.customers = len(customers)
        places = [one["loc"] for one in _found(error)]
        # (customers, index, ...) is the fault of one customer; a shorter place, of the batch.
        bad = {place[1] for place in places if len(place) > 1}
        good = [customer for i, customer in enumerate(customers) if i not in bad]
        if not skip or not good or any(len(place) < 2 for place in places):
            return problem
        return Batch(self._again(good), problem.faults, len(bad))

    def _first_faults(self, customers: list[Any], count: int) -> Problem:
        """What is wrong with the first customers, where there is too much to be listed."""
        detail = f"the body breaks the contract: {count} problems"
        first = customers[: max(1, MOST_FAULTS * len(customers) // count)]
        try:
            self._again(first)
        except ValidationError as error:
            faults = [fault(one) for one in _found(error)[:MOST_FAULTS]]
            detail += f", of which the first {len(faults)} are listed"
            return Problem("validation", detail, faults, len(customers))
        return Problem("validation", detail, customers=len(customers))

    def _again(self, customers: list[Any]) -> Sequence[BaseModel]:
        # Back to JSON: values from Python would be checked by other rules.
        body = pydantic_core.to_json({CUSTOMERS: customers})
        read: Sequence[BaseModel] = self._batch.validate_json(body).customers
        return read


def _batch_model(customer: type[BaseModel]) -> type[BaseModel]:
    # Strict, and silent about values, like the model of one customer.
    config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
    many = Field(
        min_length=1, max_length=MOST_CUSTOMERS, description="Customers, scored independently"
    )
    return create_model(
        "Customers",
        __config__=config,
        __doc__="Customers to be scored together.",
        customers=(list[customer], many),  # type: ignore[valid-type]
    )


def _problem(error: ValidationError) -> Problem:
    found = _found(error)
    if found[0]["type"] == "json_invalid":
        return Problem("malformed", f"the body is no JSON: {found[0]['msg']}")
    faults = [fault(one) for one in found]
    noun = "problem" if len(faults) == 1 else "problems"
    return Problem("validation", f"the body breaks the contract: {len(faults)} {noun}", faults)


def _parsed(body: bytes) -> dict[str, Any]:
    """A batch as it was sent; empty where it is none, and pydantic will say why."""
    try:
        batch = pydantic_core.from_json(body)
    except ValueError:
        return {}
    return batch if isinstance(batch, dict) else {}


def _customers(batch: dict[str, Any]) -> list[Any]:
    customers = batch.get(CUSTOMERS)
    return customers if isinstance(customers, list) else []


def _found(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False)
