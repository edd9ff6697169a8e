"""Rempart: zero trust for microservices. Identify, decide, enforce, record, watch."""

__version__ = "0.1.0"
