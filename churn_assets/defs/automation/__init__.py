"""When the daemon makes each asset: conditions, freshness policies, sensors."""
