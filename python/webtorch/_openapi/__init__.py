"""Descriptions of handlers as OpenAPI 3.1, for webtorch_openapi and the command line."""
