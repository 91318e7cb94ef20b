package cgroups

import "strings"

// Of reads a cgroup path as the kubelet makes it, with either driver:
//
//	/kubepods/burstable/pod<uid>/<id>                                     cgroupfs
//	/kubepods.slice/…/kubepods-burstable-pod<uid>.slice/cri-containerd-<id>.scope   systemd, dashes of the UID as underscores
//	…/kubepods-burstable-pod<uid>.slice:cri-containerd:<id>                         containerd unaware of systemd
//
// It gives the pod's UID, and the container's ID where the path is a
// container's. Both are empty for a path of anything else, also for cgroups that
// a container made itself.
func Of(path string) (podUID, containerID string) {
	rest := strings.TrimSuffix(path, "/")
	for rest != "" {
		var segment string
		i := strings.LastIndexByte(rest, '/')
		segment, rest = rest[i+1:], rest[:max(i, 0)]
		if pod, ctr, ok := strings.Cut(segment, ":"); ok { // slice:runtime:id
			_, id, _ := strings.Cut(ctr, ":")
			if uid := podSegment(pod); uid != "" && containerID == "" && isID(id) {
				return uid, id
			}
			return "", ""
		}
		if uid := podSegment(segment); uid != "" {
			return uid, containerID
		}
		if containerID != "" {
			return "", "" // two levels below no pod
		}
		if containerID = containerSegment(segment); containerID == "" {
			return "", ""
		}
	}
	return "", ""
}

// podSegment reads "pod<uid>" and "kubepods-burstable-pod<uid>.slice".
func podSegment(s string) string {
	s = strings.TrimSuffix(s, ".slice")
	i := strings.LastIndex(s, "pod")
	if i < 0 || (i > 0 && s[i-1] != '-') {
		return ""
	}
	uid := s[i+len("pod"):]
	switch len(uid) {
	case 36: // a UUID
		uid = strings.ReplaceAll(uid, "_", "-")
		for j, c := range []byte(uid) {
			if (j == 8 || j == 13 || j == 18 || j == 23) != (c == '-') || (c != '-' && !hex(c)) {
				return ""
			}
		}
		return uid
	case 32: // the hash of a static pod
		if isHex(uid) {
			return uid
		}
	}
	return ""
}

// containerSegment reads "<id>" and "cri-containerd-<id>.scope". conmon's own
// scope, which CRI-O puts beside the container, is none.
func containerSegment(s string) string {
	s = strings.TrimSuffix(s, ".scope")
	if strings.HasPrefix(s, "crio-conmon-") {
		return ""
	}
	if i := strings.LastIndexByte(s, '-'); i >= 0 {
		s = s[i+1:]
	}
	if !isID(s) {
		return ""
	}
	return s
}

// isID tells container IDs, 64 hexadecimal digits with every runtime.
func isID(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for i := range len(s) {
		if !hex(s[i]) {
			return false
		}
	}
	return true
}

func hex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
