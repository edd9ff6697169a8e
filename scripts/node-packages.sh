#!/usr/bin/env bash
# Node packages that the tests run (tests/node/package-lock.json, by hash), into .cache/node. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=tests/node/package-lock.json into=.cache/node
cmp -s "$lock" "$into/.installed" && exit 0
command -v npm >/dev/null || { echo "rempart: some tests need npm (Debian: apt-get install nodejs npm)" >&2; exit 3; }
echo "rempart: installing the tests' node packages" >&2
mkdir -p "$into"
cp tests/node/package.json "$lock" "$into/"
npm ci --prefix "$into" --ignore-scripts --no-audit --no-fund --silent
cp "$lock" "$into/.installed"
