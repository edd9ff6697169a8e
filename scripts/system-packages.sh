#!/usr/bin/env bash
# Debian packages that the tests start for real. As root they are installed; otherwise the missing ones are named.
set -euo pipefail
declare -A need=([/usr/lib/postgresql]=postgresql [/usr/bin/prometheus]=prometheus [/usr/bin/prometheus-alertmanager]=prometheus-alertmanager [/usr/bin/redis-server]=redis-server [/usr/share/doc/rsyslog-gnutls]=rsyslog-gnutls [/usr/bin/chromium]=chromium [/usr/bin/curl]=curl [/usr/bin/openssl]=openssl [/usr/sbin/runuser]=util-linux [/usr/sbin/ip]=iproute2)
missing=()
for path in "${!need[@]}"; do [ -e "$path" ] || missing+=("${need[$path]}"); done
command -v npm >/dev/null || missing+=(nodejs npm)
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "rempart: installing ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  # The packages' own services are not wanted: tests start private instances.
  policy=/usr/sbin/policy-rc.d; made=""
  if [ ! -e $policy ]; then printf '#!/bin/sh\nexit 101\n' > $policy; chmod 755 $policy; made=1; fi
  apt-get update -qq >/dev/null
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  [ -z "$made" ] || rm -f $policy
else
  echo "rempart: some tests need these packages: ${missing[*]}" >&2
  echo "         install them (Debian: sudo apt-get install ${missing[*]}) and run this again." >&2
  exit 3
fi
