"""The only importer of `cryptography`: compositions of known primitives, each named by its standard."""
