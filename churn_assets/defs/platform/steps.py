"""The decorator of every step that materialises an asset."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import dagster as dg

from churn_assets.defs.platform.faults import stop_at_data_fault
from churn_assets.defs.platform.promise_tags import tag_past_promise

Parameters = ParamSpec("Parameters")
Event = TypeVar("Event")


def step(
    function: Callable[Concatenate[dg.AssetExecutionContext, Parameters], Iterator[Event]],
) -> Callable[Concatenate[dg.AssetExecutionContext, Parameters], Iterator[Event]]:
    """Decorates the function of a step.

    The run says in a tag where the asset was requested because it is past its promise. A fault of
    the data fails the step for good, without a retry.
    """

    @wraps(function)
    def decorated(
        context: dg.AssetExecutionContext, /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Iterator[Event]:
        tag_past_promise(context)
        with stop_at_data_fault():
            yield from function(context, *args, **kwargs)

    return decorated
