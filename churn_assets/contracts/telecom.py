"""The default contract: a mobile operator's customers."""

import numpy as np

from churn_assets.contracts.vocabulary import (
    CustomerContract,
    Economics,
    Terms,
    Values,
    category,
    customer_id,
    label,
    number,
)


def charges_per_gigabyte(avg_monthly_charges: Values, avg_data_usage: Values) -> Values:
    """What a gigabyte costs this customer; a month with hardly any data counts as one gigabyte."""
    return avg_monthly_charges / np.maximum(avg_data_usage, 1.0)


def idle_share(usage_days: Values) -> Values:
    """Share of the month's days without any use."""
    return 1.0 - usage_days / 31.0


def late_payment_rate(late_payments: Values, tenure: Values) -> Values:
    """Late payments in the last year for each month as a customer in that year."""
    return late_payments / np.clip(tenure, 1.0, 12.0)


class Telecom(CustomerContract):
    """Customers of a mobile operator at the close of a month."""

    customer_id: str = customer_id("Number of the customer")
    age: int = number(
        "Age", ge=18, le=110, unit="full years", personal=True, sensitive=True,
        bands=(30, 45, 60),
    )  # fmt: skip
    gender: str = category(
        "Gender as the customer stated it", "Male", "Female", "Other",
        personal=True, sensitive=True,
    )  # fmt: skip
    location: str = category("City of the billing address", personal=True)
    contract_type: str = category(
        "Commitment of the tariff", "Month-to-month", "One year", "Two year", sliced=True
    )
    payment_method: str = category(
        "How the bill is paid", "Credit card", "Bank transfer", "Electronic check", "Mailed check"
    )
    avg_data_usage: float = number(
        "Mobile data, mean of the last 3 months", ge=0, le=1000, unit="GB a month"
    )
    avg_call_minutes: float = number(
        "Calls, mean of the last 3 months", ge=0, le=10_000, unit="minutes a month", nullable=True
    )
    usage_days: int = number("Days of the month with any use", ge=0, le=31)
    avg_monthly_charges: float = number(
        "Bill, mean of the last 3 months", ge=0, le=2_000, unit="EUR a month"
    )
    late_payments: int = number("Bills paid late in the last 12 months", ge=0, le=12)
    tenure: int = number(
        "Time since the first contract", ge=0, le=720, unit="full months", bands=(12, 24, 48)
    )
    churned: bool = label("Left within the month after the snapshot")

    __terms__ = Terms(
        version="1.0.0",
        horizon_months=1,
        economics=Economics(
            value_of_kept_customer=400, cost_of_offer=12, acceptance_rate=0.3, currency="EUR"
        ),
        derived=(charges_per_gigabyte, idle_share, late_payment_rate),
        source="simulated",
    )
