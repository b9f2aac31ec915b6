#!/usr/bin/env bash
# local_cluster.sh kind|k3d up|down: a cluster of two nodes in Docker, which has the lab's image inference-routing-lab:local
set -euo pipefail
tool=$1 action=$2 name=lab image=inference-routing-lab:local
cd "$(dirname "$0")/../../.."
command -v "$tool" >/dev/null || { echo "make $tool-$action: install $tool, Docker and kubectl first" >&2; exit 1; }

case $tool-$action in
  kind-up)
    kind get clusters 2>/dev/null | grep -qx "$name" || kind create cluster --name "$name" --wait 3m --config - <<'YAML'
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes: [{role: control-plane}, {role: worker}]
YAML
    ;;
  k3d-up) k3d cluster list "$name" >/dev/null 2>&1 || k3d cluster create "$name" --agents 1 --wait ;;
  kind-down) kind delete cluster --name "$name"; exit ;;
  k3d-down) k3d cluster delete "$name"; exit ;;
  *) echo "local_cluster.sh: use kind or k3d, up or down" >&2; exit 1 ;;
esac

docker compose -f compose/compose.yaml --profile all build --quiet control-plane
case $tool in
  kind) kind load docker-image "$image" --name "$name" ;;
  k3d) k3d image import "$image" --cluster "$name" ;;
esac
echo "now: lab up --runtime kubernetes --context $([ "$tool" = kind ] && echo kind || echo k3d)-$name --image $image"
