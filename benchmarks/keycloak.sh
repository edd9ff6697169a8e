#!/usr/bin/env bash
# Fetch Keycloak by Maven, start it on a loopback port, measure refresh and client credentials there and at ours in turns, stop it. See keycloak.md.
set -euo pipefail
port=${1:-8180} version=${KEYCLOAK_VERSION:-26.4.0}
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d /tmp/keycloak.XXXXXX)
pid=""
trap '[ -z "$pid" ] || kill "$pid" || true; wait || true; rm -rf "$work"' EXIT
mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:zip" -DoutputDirectory="$work"
(cd "$work" && unzip -q keycloak-quarkus-dist-*.zip)
home=$(echo "$work"/keycloak-*/)
password=$(head -c 18 /dev/urandom | base64)
KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD=$password \
  "$home/bin/kc.sh" start-dev --http-host=127.0.0.1 --http-port="$port" > "$work/log" 2>&1 &
pid=$!
KEYCLOAK_PASSWORD=$password "$here/.venv/bin/python" "$here/benchmarks/keycloak_load.py" "http://127.0.0.1:$port"
