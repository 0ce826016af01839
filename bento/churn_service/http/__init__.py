"""The HTTP side: middleware, routes, requests and responses, the OpenAPI document."""
