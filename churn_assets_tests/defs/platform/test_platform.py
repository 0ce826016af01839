import pytest

from churn_assets.defs.platform.platform import Platform
from churn_assets.settings import Settings, SettingsError


def test_settings_that_are_no_cron_expressions_are_named_at_the_start() -> None:
    settings = Settings(
        freshness={"raw_deadline": "6 o'clock"},
        automation={"catch_up_cron": "* * * *", "traffic_cron": "0 5 * * *"},
    )
    with pytest.raises(SettingsError) as error:
        Platform.of(settings)
    first, second = str(error.value).splitlines()
    assert first.startswith('CHURN_FRESHNESS__RAW_DEADLINE is "6 o\'clock": this is no cron')
    assert second.startswith("CHURN_AUTOMATION__CATCH_UP_CRON is '* * * *'")
