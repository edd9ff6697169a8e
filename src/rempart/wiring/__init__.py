"""The composition root: settings, the catalog of what can be swapped, and the functions that put a process together."""
