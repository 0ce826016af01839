"""The servers that the service is measured beside, written as their tutorials write them."""
