#!/usr/bin/env bash
# Installs what the test cluster runs on and builds Kubernetes' own programs, once, into a cache folder.
# Usage: build.sh; the folder is $TESTCLUSTER_BIN or ~/.cache/testcluster/bin. Cold, it takes about 10 minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")"
bin=${TESTCLUSTER_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/testcluster/bin}
export PATH=$PATH:/usr/sbin:/sbin # iptables and ip, where a plain user's PATH leaves them out

missing=()
for pair in etcd:etcd-server containerd:containerd runc:runc busybox:busybox-static iptables:iptables openssl:openssl ip:iproute2 /usr/lib/cni/bridge:containernetworking-plugins; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
if ((${#missing[@]})); then
  [[ $(id -u) == 0 ]] || { echo "build.sh: these Debian packages are missing, and only root can install them: ${missing[*]}" >&2; exit 1; }
  echo "installing ${missing[*]}" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
[[ $(cat "$bin/VERSION" 2>/dev/null) == "$version" && -x $bin/kube-proxy ]] && exit
mkdir -p "$bin"
minor=${version#v1.} minor=${minor%%.*}
stamp() { # the linker flags that Kubernetes' own build sets: without them the kubelet reports v0.0.0, which the API server refuses
  for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=%s ' "$p" "$version" "$p" "$p" "$minor"
  done
}
for program in kubectl kube-apiserver kubelet kube-controller-manager kube-scheduler kube-proxy; do
  echo "building Kubernetes $version: $program" >&2
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $(stamp)" -o "$bin/" "k8s.io/kubernetes/cmd/$program"
done
echo "$version" >"$bin/VERSION" # last: a build that was interrupted is taken up again
