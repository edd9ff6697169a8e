#!/usr/bin/env bash
# Make the *_pb2.py and *_pb2.pyi beside every .proto of src/rempart/protocols. Run it after changing one; commit what it makes.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t protos < <(find src/rempart/protocols -name '*.proto' | sort)
.venv/bin/python -m grpc_tools.protoc -Isrc --python_out=src --pyi_out=src "${protos[@]}"
