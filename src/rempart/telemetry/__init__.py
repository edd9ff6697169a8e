"""Traces: what took how long, in which process, for one request. Off unless `[tracing]` names a collector.

`spans` says what a span is and keeps the one under way, `otlp` writes them for a collector, `exporter` sends them on a
thread of its own, `asgi` makes one of each request.
"""
