"""From the bytes of a body to customers, or to everything that is wrong with them."""

from collections.abc import Sequence
from dataclasses import dataclass

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


class Reader:
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

    def customer(self, body: bytes) -> BaseModel:
        """One customer.

        Raises:
            Problem: malformed, or validation with every fault.
        """
        try:
            customer: BaseModel = self._customer.validate_json(body)
        except ValidationError as error:
            raise _problem(error) from None
        return customer

    def batch(self, body: bytes, *, skip: bool) -> Batch:
        """Many customers.

        Args:
            body: JSON with 1 to `MOST_CUSTOMERS` customers.
            skip: leave out faulty customers instead of refusing them all.

        Raises:
            Problem: malformed, or validation with every fault of every customer; if `skip`, only
                where the body as a whole is wrong or no customer is left.
        """
        try:
            return Batch(self._batch.validate_json(body).customers)
        except ValidationError as error:
            problem = _problem(error)
            places = [one["loc"] for one in _found(error)] if problem.faults else [()]
        # (customers, index, ...) is the fault of one customer; a shorter place, of the batch.
        if any(len(place) < 2 for place in places):
            raise problem
        customers = pydantic_core.from_json(body)[CUSTOMERS]
        problem.customers = len(customers)
        bad = {place[1] for place in places}
        good = [customer for i, customer in enumerate(customers) if i not in bad]
        if not skip or not good:
            raise problem
        # Back to JSON: values from Python would be checked by other rules.
        again = pydantic_core.to_json({CUSTOMERS: good})
        return Batch(self._batch.validate_json(again).customers, problem.faults, len(bad))


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
    if (count := error.error_count()) > MOST_FAULTS:
        detail = f"the body breaks the contract: {count} problems, too many to list"
        return Problem("validation", detail)
    found = _found(error)
    if found[0]["type"] == "json_invalid":
        return Problem("malformed", f"the body is no JSON: {found[0]['msg']}")
    faults = [fault(one) for one in found]
    noun = "problem" if len(faults) == 1 else "problems"
    return Problem("validation", f"the body breaks the contract: {len(faults)} {noun}", faults)


def _found(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_context=False)
