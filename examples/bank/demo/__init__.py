"""The bank's critical flows, F1 to F14, each once allowed and once refused, against the running system."""
