#!/bin/sh
# Prepares a bare Debian for labs of containers, as root: installs the Docker engine and its compose plugin, and builds a
# base image if no registry can be reached. Does nothing if all of that exists.
set -eu

BASE=python:3.13-slim                        # base image of compose/Dockerfile
LOCAL_BASE=inference-routing-lab-base:local  # its replacement: see lab/runtime/compose/image.py
SUITE=trixie                                 # has Python 3.13 as well
LOG=/var/log/dockerd.log
PATIENCE_S=60

say() { printf '· %s\n' "$*"; }
fail() { printf 'make engine: %s\n' "$*" >&2; exit 1; }

answers() { docker info >/dev/null 2>&1; }
has_compose() { docker compose version >/dev/null 2>&1; }
has_image() { docker image inspect "$1" >/dev/null 2>&1; }

install() {
  say "installing $*"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

start_daemon() {
  say "starting dockerd"
  if [ -d /run/systemd/system ]; then
    systemctl start docker
  else
    # Own session: dockerd outlives this shell and its terminal.
    setsid dockerd >"$LOG" 2>&1 </dev/null &
  fi
  waited=0
  until answers; do
    waited=$((waited + 1))
    [ "$waited" -le $((PATIENCE_S * 5)) ] ||
      fail "dockerd does not answer after $PATIENCE_S s; its last log line: $(tail -n 1 "$LOG" 2>/dev/null)"
    sleep 0.2
  done
}

make_base() {
  say "pulling $BASE"
  if timeout "$PATIENCE_S" docker pull --quiet "$BASE" >/dev/null 2>&1; then
    return
  fi
  command -v apt-get >/dev/null || fail "$BASE cannot be pulled: see 'docker pull $BASE'"
  command -v mmdebstrap >/dev/null || install mmdebstrap
  say "cannot pull it: building $LOCAL_BASE from Debian's packages instead"
  # Without a mirror argument, mmdebstrap uses the machine's own.
  tar=$(mktemp --suffix=.tar)
  trap 'rm -f "$tar"' EXIT
  mmdebstrap --quiet --variant=minbase --include=python3-venv,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$SUITE" "$tar" || fail "mmdebstrap could not build a base image"
  docker import --change 'CMD ["python3"]' "$tar" "$LOCAL_BASE" >/dev/null
}

if ! answers || ! has_compose; then
  if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    fail "install Docker (Engine 25 or newer, with the compose plugin) and start it, or run this as root on Debian"
  fi
  has_daemon=yes; command -v dockerd >/dev/null || has_daemon=
  has_client=yes; command -v docker >/dev/null || has_client=
  if [ -z "$has_daemon" ] || [ -z "$has_client" ] || ! has_compose; then
    # shellcheck disable=SC2046  # word splitting is wanted: package names
    install docker.io iptables docker-compose $([ -n "$has_client" ] || echo docker-cli)
  fi
  answers || start_daemon
fi
has_image "$BASE" || has_image "$LOCAL_BASE" || make_base
say "engine ready: Docker $(docker version --format '{{.Server.Version}}')"
