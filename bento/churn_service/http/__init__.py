"""HTTP interface: middleware, routes, requests, responses and the OpenAPI document."""
