"""How often the promotion policies let a challenger pass, by simulation on IBM Telco customers.

    python -m benchmarks.promotion

A logistic regression and boosted trees are fitted once, on half of the customers. The other half is
the population, on which the true difference of two models is known. Noise on the logits of a model
reduces its ROC AUC on the population to the wanted value, to the sixth digit; its probabilities
keep their distribution. A trial draws test rows from the population with replacement and applies
the policy to them. So the true quality of a challenger is exact, while its measured quality varies
as it would between test sets.

Each scenario is simulated twice: with models whose errors are alike (the regression, and the
regression on a bootstrap of its rows), and with models whose errors are not (the regression, and
the trees).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from benchmarks.accuracy import load_customers
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.features import model_frame
from churn_assets.core.governance.promotion import PolicyName, compare, fresh, superior
from churn_assets.core.modelling.pipelines import boosting_pipeline, logistic_pipeline
from churn_assets.core.policies import PromotionPolicy

Floats = NDArray[np.float64]

TRIALS = 200
RESAMPLES = 500
"""A quarter of the platform's resamples: the shares are the same within their error."""
TEST_ROWS = 1_056
"""As many rows as the test split of the graph has: 15% of 7,043."""
MOST_FALSE = 0.05
POLICY = PromotionPolicy()


@dataclass(frozen=True)
class Population:
    """Customers that no model was trained on, with the probabilities of each model."""

    contract: Contract
    churned: NDArray[np.bool_]
    probabilities: dict[str, Floats]


@dataclass(frozen=True)
class Scenario:
    """A policy, and a challenger whose true ROC AUC is `gained` above the champion's.

    Attributes:
        challenger: Model from which the challenger is made; the champion is the regression.
        false: Whether a promotion is a false one, because the challenger must not pass.
    """

    policy: PolicyName
    challenger: str
    gained: float
    false: bool = False


MODELS = ("regression, other rows", "trees")
GAINED: tuple[tuple[PolicyName, float, tuple[float, ...]], ...] = (
    ("superior", 0.0, (0.005, 0.01, 0.02)),
    ("fresh", -POLICY.auc_margin, (-POLICY.auc_margin / 2, 0.0, 0.01)),
)
"""Policy, the gain that must not pass, and gains for which the power is shown."""

SCENARIOS = [
    Scenario(policy, challenger, gained, false=gained == bound)
    for policy, bound, others in GAINED
    for challenger in MODELS
    for gained in (bound, *others)
]


def main() -> None:
    people = population()
    rows = [(one, *promoted(one, people, TEST_ROWS, RESAMPLES)) for one in SCENARIOS]
    table = pd.DataFrame(
        {
            "policy": one.policy,
            "challenger": one.challenger,
            "true AUC gained": one.gained,
            "promoted": share,
            "by the AUC alone": auc_alone,
            "aim": f"<= {MOST_FALSE}" if one.false else "",
            "verdict": ("pass" if share <= MOST_FALSE else "miss") if one.false else "",
        }
        for one, share, auc_alone in rows
    )
    print(f"{TRIALS} trials of {TEST_ROWS} test rows, {RESAMPLES} resamples each")
    print(table.to_string(index=False))


@cache
def population() -> Population:
    """Fits the models on half of the customers and scores the others."""
    contract = load_contract("ibm_telco")
    customers = load_customers(contract)
    order = np.random.default_rng(0).permutation(len(customers))
    training, others = (customers.iloc[half] for half in np.array_split(order, 2))
    resampled = training.sample(len(training), replace=True, random_state=1)
    trees = boosting_pipeline(contract).set_params(model__max_iter=60, model__max_leaf_nodes=8)
    fitted = {
        "regression": (logistic_pipeline(contract), training),
        "regression, other rows": (logistic_pipeline(contract), resampled),
        "trees": (trees, training),
    }
    label = contract.label.name
    probabilities = {}
    with threadpool_limits(1):
        for name, (pipeline, rows) in fitted.items():
            pipeline.fit(model_frame(rows, contract), rows[label].to_numpy(dtype=bool))
            probabilities[name] = pipeline.predict_proba(model_frame(others, contract))[:, 1]
    return Population(contract, others[label].to_numpy(dtype=bool), probabilities)


def promoted(
    scenario: Scenario, people: Population, rows: int, resamples: int
) -> tuple[float, float]:
    """Share of trials in which the challenger passes, by the whole policy and by its AUC alone."""
    champion, challenger = calibrated(scenario, people)
    judge, limit = {
        "superior": (superior, 0.0),
        "fresh": (fresh, -POLICY.auc_margin),
    }[scenario.policy]
    passed, label = [], people.contract.label.name
    for trial in range(TRIALS):
        drawn = np.random.default_rng((trial, 1)).integers(len(people.churned), size=rows)
        found = compare(
            pd.DataFrame({label: people.churned[drawn]}),
            challenger[drawn],
            champion[drawn],
            people.contract,
            resamples=resamples,
            seed=trial,  # another stream than the one that draws the rows
        )
        low = found.auc_gained.low
        passed.append((judge(found, POLICY).passed, low is not None and low > limit))
    share, auc_alone = np.mean(passed, axis=0)
    return float(share), float(auc_alone)


def calibrated(scenario: Scenario, people: Population) -> tuple[Floats, Floats]:
    """Champion and challenger with the wanted difference: the better one is made worse."""
    champion, challenger = (
        people.probabilities[name] for name in ("regression", scenario.challenger)
    )
    auc, other = (float(roc_auc_score(people.churned, p)) for p in (champion, challenger))
    if other > auc + scenario.gained:
        return champion, worsened(challenger, people.churned, auc + scenario.gained)
    return worsened(champion, people.churned, other - scenario.gained), challenger


def worsened(probabilities: Floats, churned: NDArray[np.bool_], auc: float) -> Floats:
    """The same probabilities, reordered among the customers to the wanted ROC AUC."""
    noise = np.random.default_rng(2).normal(size=len(churned))
    scores, ordered = logit(probabilities), np.sort(probabilities)
    low, high = 0.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        noisy = scores + middle * noise
        low, high = (middle, high) if roc_auc_score(churned, noisy) > auc else (low, middle)
    worse: Floats = ordered[rankdata(scores + low * noise, method="ordinal") - 1]
    return worse


if __name__ == "__main__":
    main()
