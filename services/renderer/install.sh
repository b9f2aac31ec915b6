#!/bin/sh
# Installs the proxies that Debian has, as root; elsewhere says what to install.
set -eu
PATH="$PATH:/usr/sbin"

missing=
command -v haproxy >/dev/null || missing="$missing haproxy"
# The module for njs needs nginx, which does not need it.
ls /usr/lib/nginx/modules/ngx_http_js_module.so >/dev/null 2>&1 || missing="$missing libnginx-mod-http-js nginx"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "make proxies: install$missing, or run this as root on Debian" >&2
  exit 1
fi
# A package starts its server for the whole machine, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod +x "$policy"
fi
apt-get update -qq
# shellcheck disable=SC2086 (a list of words)
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
