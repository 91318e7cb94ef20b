package cgroups

import (
	"strings"
	"testing"
)

func TestCgroupPaths(t *testing.T) {
	const (
		uid  = "dbe6760d-b0cb-4566-a114-a715fcf1e005"
		hash = "0123456789abcdef0123456789abcdef"
		id   = "73b3865bf07f80f00670a1a97827ecf80b0e0a74c57da655a9fa03527f2080d2"
	)
	under := strings.ReplaceAll(uid, "-", "_")
	for path, want := range map[string][2]string{
		"/kubepods/burstable/pod" + uid + "/" + id:   {uid, id},
		"/kubepods/pod" + uid:                        {uid, ""},
		"/kubepods/besteffort/pod" + hash + "/" + id: {hash, id},
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope": {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope":                                              {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice/docker-" + id + ".scope":                                            {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice":                                                                    {uid, ""},
		// Flags of the kubelet move its root (--cgroup-root), and kind nests it.
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope": {uid, id},
		"/docker/" + id + "/kubelet/kubepods/besteffort/pod" + uid + "/" + id:                                                                                      {uid, id},
		// Static pods have a hash for a UID, with both drivers.
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + hash + ".slice/crio-" + id + ".scope": {hash, id},
		// CRI-O with cgroupfs, and CRI-O's container below its scope on cgroup v2 with crun.
		"/kubepods/burstable/pod" + uid + "/crio-" + id:                                                   {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope/container":                 {},
		"/kubelet/kubepods/burstable/pod" + uid + "/" + id:                                                {uid, id},
		"/system.slice/containerd.service/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + id: {uid, id},
		"/kubepods.slice/kubepods-pod" + under + ".slice/crio-conmon-" + id + ".scope":                    {},
		"/kubepods/burstable/pod" + uid + "/" + id + "/init.scope":                                        {},
		"/kubepods/burstable/pod" + uid + "/" + id + "/" + id:                                             {},
		"/kubepods/burstable":             {},
		"/":                               {},
		"":                                {},
		"/system.slice/sshd.service":      {},
		"/user.slice/pod" + uid[:35]:      {},
		"/kubepods/podgggggggg" + uid[8:]: {},
		"/docker/" + id:                   {},
	} {
		if gotUID, gotID := Of(path); gotUID != want[0] || gotID != want[1] {
			t.Errorf("%s is pod %q, container %q; want %q, %q", path, gotUID, gotID, want[0], want[1])
		}
	}
}

func FuzzCgroupOf(f *testing.F) {
	f.Add("/kubepods/burstable/poddbe6760d-b0cb-4566-a114-a715fcf1e005/73b3865bf07f80f00670a1a97827ecf80b0e0a74c57da655a9fa03527f2080d2")
	f.Fuzz(func(t *testing.T, path string) {
		uid, id := Of(path)
		if id != "" && (uid == "" || len(id) != 64) {
			t.Errorf("%q is container %q of pod %q", path, id, uid)
		}
	})
}
