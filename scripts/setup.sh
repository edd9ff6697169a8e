#!/usr/bin/env bash
# Make .venv from the hash-locked requirements. Safe to run again; needs only Python 3.11+.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '%s\n' "$*" >&2; }

# As root our processes drop to users of their own, which must be able to read the interpreter: prefer the system's.
python=""
for candidate in "${REMPART_PYTHON:-}" /usr/bin/python3 "$(command -v python3 || true)"; do
  if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || { say "rempart: Python 3.11 or newer is needed and none was found. Install it, or set REMPART_PYTHON."; exit 3; }

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "rempart: installing python3-venv"
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  else
    say "rempart: $python has no venv module. Install it (Debian: apt-get install python3-venv) and run this again."; exit 3
  fi
fi
say "rempart: setting up .venv with $("$python" -V)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
.venv/bin/uv pip install -q --compile-bytecode --python .venv/bin/python --require-hashes -r requirements/dev.txt
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
# Processes that run under users of their own can not write bytecode: without this each start would compile everything.
.venv/bin/python -m compileall -q src examples >/dev/null || true
touch .venv/.complete
say "rempart: set up"
