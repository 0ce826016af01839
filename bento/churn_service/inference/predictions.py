"""The predictor: the only code that turns customers into predictions, alone or in a batch."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from time import perf_counter, time
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter

from churn_assets.contracts.card import Risk
from churn_assets.contracts.contract import Contract
from churn_service.inference.served_model import ServedModel
from churn_service.observability.metrics import Metrics
from churn_service.observability.prediction_log import PredictionLog, RequestPredictions
from churn_service.problems import Fault

CHUNK = 500
"""Customers of a batch that are scored before other requests continue: one or two milliseconds."""

PREDICT, PREDICT_BATCH = "/predict", "/predict/batch"


@dataclass(slots=True)
class Prediction:
    """Prediction for one customer."""

    customer_id: str
    churn_probability: Annotated[float, Field(ge=0, le=1)]
    will_churn: Annotated[bool, Field(description="True where an offer pays")]
    risk_category: Annotated[Risk, Field(description="high where an offer pays")]
    model_version: str
    prediction_id: Annotated[str, Field(description="Id in the prediction log")]
    degraded: Annotated[bool, Field(description="True where the fallback model scored")]


@dataclass(slots=True)
class Predictions:
    """Predictions for the customers of a batch.

    Attributes:
        predictions: Predictions in the order of the request, without the skipped customers.
        problems: Faults of the skipped customers.
        degraded: Whether the fallback model scored at least one customer.
    """

    predictions: Sequence[Prediction]
    problems: Sequence[Fault]
    model_version: str
    degraded: bool


ENCODE_PREDICTION = TypeAdapter(Prediction).serializer.to_json
ENCODE_PREDICTIONS = TypeAdapter(Predictions).serializer.to_json


@dataclass(slots=True)
class RequestContext:
    """Caller, trace and start time of one request.

    Attributes:
        key_id: Id of the API key; "" where the service needs no keys.
        trace_id: Id of the trace; "" where there is none.
        started: Time at which the request arrived, by `perf_counter`.
    """

    key_id: str = ""
    trace_id: str = ""
    started: float = field(default_factory=perf_counter)


class Predictor:
    """Scores customers, counts the predictions and logs them.

    Args:
        log: Prediction log; None where predictions are not logged.
    """

    def __init__(
        self,
        contract: Contract,
        model: ServedModel,
        metrics: Metrics,
        log: PredictionLog | None,
    ) -> None:
        self._model, self._metrics, self._log = model, metrics, log
        self._id = contract.id.name
        self._version = model.card.version
        self._ids = _prediction_ids()

    def predict(self, customer: BaseModel, context: RequestContext) -> Prediction:
        """Scores one customer.

        Raises:
            Unavailable: Both scorers failed.
        """
        row = self._model.features.row(customer)
        probability, degraded = self._model.score_one(row)
        prediction = self._prediction(customer, probability, degraded)
        prediction.prediction_id = next(self._ids)
        self._metrics.predicted(
            PREDICT,
            probability,
            prediction.risk_category,
            prediction.will_churn,
            degraded=degraded,
            seconds=perf_counter() - context.started,
            unknown=self._model.unknown(row),
        )
        self._write(PREDICT, context, [customer], [prediction], degraded=degraded)
        return prediction

    async def predict_batch(
        self,
        customers: Sequence[BaseModel],
        context: RequestContext,
        problems: Sequence[Fault] = (),
    ) -> Predictions:
        """Scores a batch of customers, each as `predict` does.

        Raises:
            Unavailable: Both scorers failed.
        """
        predictions: list[Prediction] = []
        unknown: Counter[str] = Counter()
        for start in range(0, len(customers), CHUNK):
            chunk = customers[start : start + CHUNK]
            columns = self._model.features.columns(chunk)
            probabilities, degraded = self._model.score(columns)
            unknown.update(self._model.unknown_among(columns))
            predictions += [
                self._prediction(customer, probability, degraded)
                for customer, probability in zip(chunk, probabilities.tolist(), strict=True)
            ]
            await asyncio.sleep(0)
        # Not before: a batch that fails or is cancelled must leave no gap in the ids.
        for prediction in predictions:
            prediction.prediction_id = next(self._ids)
        degraded = any(prediction.degraded for prediction in predictions)
        self._metrics.predicted_batch(
            PREDICT_BATCH,
            np.array([prediction.churn_probability for prediction in predictions]),
            [prediction.risk_category for prediction in predictions],
            degraded=degraded,
            seconds=perf_counter() - context.started,
            unknown=unknown,
        )
        self._write(PREDICT_BATCH, context, customers, predictions, degraded=degraded)
        return Predictions(predictions, problems, self._version, degraded)

    def _prediction(self, customer: BaseModel, probability: float, degraded: bool) -> Prediction:
        """A prediction without its id."""
        risk = self._model.card.risk_category(probability)
        return Prediction(
            customer_id=customer.__dict__[self._id],
            churn_probability=probability,
            will_churn=risk == "high",
            risk_category=risk,
            model_version=self._version,
            prediction_id="",
            degraded=degraded,
        )

    def _write(
        self,
        endpoint: str,
        context: RequestContext,
        customers: Sequence[BaseModel],
        predictions: Sequence[Prediction],
        *,
        degraded: bool,
    ) -> None:
        if self._log is None:
            return
        self._log.put(
            RequestPredictions(
                time=time(),
                endpoint=endpoint,
                key_id=context.key_id,
                trace_id=context.trace_id,
                model_version=self._version,
                degraded=degraded,
                customers=customers,
                predictions=predictions,
            )
        )


def _prediction_ids() -> Iterator[str]:
    """Ids that no other process generates, at a tenth of the cost of random ones.

    Those of one process are numbered from 0 without gaps, and are logged in that order: a number
    that is missing in the log is a lost line.
    """
    process = os.urandom(8).hex()
    return (f"{process}-{number:08x}" for number in count())
