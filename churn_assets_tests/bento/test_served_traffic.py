"""The graph reads the prediction log of a running service."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from upath import UPath

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets.adapters.prediction_logs import read_key, read_lines
from churn_assets.contracts.schemas import typed
from churn_assets.core.data.features import derive_features
from churn_assets.core.scoring.log_lines import parse_lines
from churn_assets.core.scoring.skew import compare_served
from churn_assets.core.scoring.traffic import (
    Window,
    as_traffic,
    merge_predictions,
    read_positions,
    with_customers,
)
from churn_assets_tests.bento.served_bento import served_bento
from churn_assets_tests.bentos import CONTRACT, customers


def test_predictions_are_read_while_the_service_writes_them(
    built: BuiltBento, store: BentoStore, tmp_path: Path
) -> None:
    key = tmp_path / "id.key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    month = str(pd.Period(datetime.now(UTC).strftime("%Y-%m"), freq="M") - 1)
    folder = UPath(tmp_path / "predictions", CONTRACT.name)
    scored, predictions = customers(300), []
    rows = as_traffic(pd.DataFrame(), CONTRACT, month)
    settings = {"CHURN_API_ID_KEY_FILE": str(key)}
    with served_bento(built, store, tmp_path / "predictions", settings) as server:
        for start in range(0, len(scored), 100):
            body = {"customers": scored[start : start + 100]}
            predictions += server.client.post("/predict/batch", json=body).json()["predictions"]
            server.prediction_lines({one["prediction_id"] for one in predictions})
            parsed = parse_lines(read_lines(folder, read_positions(rows)), CONTRACT, Window())
            assert len(parsed.rows) == 100
            assert parsed.rejected.empty
            rows = merge_predictions(rows, as_traffic(parsed.rows, CONTRACT, month))
    found = rows.set_index("prediction_id")["churn_probability"].to_dict()
    assert found == {one["prediction_id"]: one["churn_probability"] for one in predictions}
    features = derive_features(typed(pd.DataFrame(scored), CONTRACT), CONTRACT)
    known = with_customers(rows, features, CONTRACT, read_key(key))
    skew = compare_served(known, features, CONTRACT, read_key(key))
    assert (skew.compared, skew.by_column) == (300, {})
