#!/usr/bin/env bash
# Starts a real one-node Kubernetes cluster on addresses of this machine: etcd, kube-apiserver, kube-controller-manager,
# kube-scheduler, kube-proxy, containerd and kubelet, as root. Usage: up.sh [STATE_DIR]; prints the kubeconfig's path.
# What runs already is left alone, so it may be called again.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${TESTCLUSTER_BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/testcluster/bin}
export PATH=$PATH:/usr/sbin:/sbin
state=${1:-${TESTCLUSTER_STATE:-/var/tmp/testcluster}}
node=testnode
addr=198.18.0.1 # on lo: the kubelet and the kubernetes Service refuse 127.x; this one never leaves the machine either
mkdir -p "$state"/{pki,log,pid,etcd,kubelet,containerd,cni,manifests}
cd "$state"

ip -br addr show lo | grep -qw $addr || ip addr add $addr/32 dev lo

# The kubelet, the runtime and every collector of a test run take inotify instances of one user, of which the default is 128.
(($(</proc/sys/fs/inotify/max_user_instances) >= 1024)) || echo 1024 >/proc/sys/fs/inotify/max_user_instances

start() { # NAME COMMAND...: runs a daemon, its log and pid under $state
  local name=$1; shift
  # The name is compared too: after a reboot the number may be somebody else's. One that was killed keeps its name until
  # its parent has noticed.
  if [[ -f pid/$name && $(cat "/proc/$(cat pid/"$name")/comm" 2>/dev/null) == "$(basename "$1" | cut -c1-15)" ]] &&
    ! grep -q '^State:.Z' "/proc/$(cat pid/"$name")/status" 2>/dev/null; then return; fi
  ( # Whoever holds a lock while calling this does not leave it to the daemon.
    for fd in /proc/self/fd/*; do fd=${fd##*/}; if ((fd > 2)); then exec {fd}>&-; fi; done
    exec setsid nohup "$@" >"log/$name.log" 2>&1 </dev/null
  ) &
  echo $! >"pid/$name"
}
wait_for() { # SECONDS WHAT COMMAND...
  local n=$1 what=$2; shift 2
  for ((i = 0; i < n * 2; i++)); do "$@" >/dev/null 2>&1 && return; sleep 0.5; done
  echo "up.sh: $what did not come up in $n s; see $state/log" >&2; exit 1
}

# --- certificates -----------------------------------------------------------------------------
cert() { # FILE SUBJECT [SAN]
  [[ -f pki/$1.crt ]] && return
  openssl req -newkey rsa:2048 -nodes -keyout "pki/$1.key" -out "pki/$1.csr" -subj "$2" 2>/dev/null
  openssl x509 -req -in "pki/$1.csr" -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -days 30 -out "pki/$1.crt" \
    -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=clientAuth,serverAuth\n' "${3:-DNS:localhost}") 2>/dev/null
}
# A day before they end the certificates are made anew; what they are for must then start anew too.
if [[ -f pki/ca.crt ]] && ! openssl x509 -checkend 86400 -noout -in pki/ca.crt >/dev/null; then
  bash "$here/down.sh" "$state"; rm -f pki/*
fi
if [[ ! -f pki/ca.crt ]]; then
  openssl req -x509 -newkey rsa:2048 -nodes -keyout pki/ca.key -out pki/ca.crt -days 30 -subj /CN=testcluster-ca 2>/dev/null
  openssl genrsa -out pki/sa.key 2048 2>/dev/null
  openssl rsa -in pki/sa.key -pubout -out pki/sa.pub 2>/dev/null
fi
cert apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$addr,IP:10.96.0.1"
cert admin /O=system:masters/CN=admin
cert controller-manager /CN=system:kube-controller-manager
cert scheduler /CN=system:kube-scheduler
cert kube-proxy /CN=system:kube-proxy
cert kubelet "/O=system:nodes/CN=system:node:$node" "DNS:$node,DNS:localhost,IP:127.0.0.1,IP:$addr"
kubeconfig() {
  cat >"$1.kubeconfig" <<K
apiVersion: v1
kind: Config
clusters: [{name: testcluster, cluster: {server: "https://$addr:16443", certificate-authority: $state/pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $state/pki/$1.crt, client-key: $state/pki/$1.key}}]
contexts: [{name: testcluster, context: {cluster: testcluster, user: $1}}]
current-context: testcluster
K
}
for u in admin controller-manager scheduler kube-proxy kubelet; do kubeconfig $u; done

# --- control plane ----------------------------------------------------------------------------
start etcd etcd --data-dir "$state/etcd" --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
  --listen-peer-urls http://127.0.0.1:12380 --listen-metrics-urls http://127.0.0.1:12381 --unsafe-no-fsync
start apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:12379 --bind-address=$addr --secure-port=16443 \
  --advertise-address=$addr --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
  --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key --kubelet-certificate-authority=pki/ca.crt \
  --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key --service-account-issuer=https://kubernetes.default.svc \
  --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC --allow-privileged=true \
  --kubelet-preferred-address-types=InternalIP \
  $([[ -z ${AGGREGATION:-} ]] || echo --requestheader-client-ca-file=pki/ca.crt --requestheader-allowed-names=admin --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- --proxy-client-cert-file=pki/admin.crt --proxy-client-key-file=pki/admin.key)
kc() { "$bin/kubectl" --kubeconfig admin.kubeconfig "$@"; }
wait_for 120 "the API server" kc get --raw /readyz
start controller-manager "$bin/kube-controller-manager" --kubeconfig=controller-manager.kubeconfig --authentication-kubeconfig=controller-manager.kubeconfig \
  --authorization-kubeconfig=controller-manager.kubeconfig --bind-address=127.0.0.1 --secure-port=20257 --leader-elect=false \
  --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt --use-service-account-credentials=true --allocate-node-cidrs=true --cluster-cidr=10.244.0.0/16
start scheduler "$bin/kube-scheduler" --kubeconfig=scheduler.kubeconfig --authentication-kubeconfig=scheduler.kubeconfig \
  --authorization-kubeconfig=scheduler.kubeconfig --bind-address=127.0.0.1 --secure-port=20259 --leader-elect=false

# --- container runtime ------------------------------------------------------------------------
cat >cni/10-bridge.conflist <<'C'
{"cniVersion": "0.4.0", "name": "testcluster", "plugins": [
  {"type": "bridge", "bridge": "tc0", "isGateway": true, "ipMasq": false, "ipam": {"type": "host-local", "subnet": "10.244.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "loopback"}]}
C
cat >containerd.toml <<C
version = 2
root = "$state/containerd/root"
state = "$state/containerd/run"
[grpc]
  address = "$state/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
C
start containerd containerd --config containerd.toml
wait_for 30 containerd ctr -a containerd/containerd.sock version
for img in pause busybox; do
  ctr -a containerd/containerd.sock -n k8s.io images ls -q | grep -q "localhost/$img:1" || {
    bash "$here/image.sh" "$img" "$state/$img.tar"; ctr -a containerd/containerd.sock -n k8s.io images import "$state/$img.tar" >/dev/null; }
done

# --- kubelet ----------------------------------------------------------------------------------
cat >kubelet.yaml <<C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $addr
port: 10250
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix://$state/containerd/containerd.sock
tlsCertFile: $state/pki/kubelet.crt
tlsPrivateKeyFile: $state/pki/kubelet.key
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $state/pki/ca.crt}}
authorization: {mode: Webhook}
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
resolvConf: ""
clusterDNS: [10.96.0.10]
# So that files of containers that write much are rotated within a test.
containerLogMaxSize: 1536Ki
containerLogMonitorInterval: 3s
C
start kubelet "$bin/kubelet" --config=kubelet.yaml $([[ -n ${CADVISOR_BARE:-} ]] || echo "--containerd=$state/containerd/containerd.sock") --kubeconfig=kubelet.kubeconfig --hostname-override=$node --node-ip=$addr --root-dir="$state/kubelet"
start kube-proxy "$bin/kube-proxy" --kubeconfig=kube-proxy.kubeconfig --hostname-override=$node --proxy-mode=iptables --cluster-cidr=10.244.0.0/16 \
  --healthz-bind-address=127.0.0.1 --metrics-bind-address=127.0.0.1:10249 --conntrack-max-per-core=0
wait_for 120 "the node" bash -c "$bin/kubectl --kubeconfig admin.kubeconfig get node $node | grep -qw Ready"
wait_for 60 "the default service account" kc -n default get serviceaccount default
echo "$state/admin.kubeconfig"
