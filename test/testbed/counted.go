package testbed

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// CountedPod is the manifest of a writer that numbers its lines: its name, namespace,
// how many lines of some 200 bytes it writes, and how many a second.
const CountedPod = `---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: localhost/busybox:1
    imagePullPolicy: Never
    command:
    - /bin/sh
    - -c
    - |
      i=0; pad=$(head -c 150 /dev/zero | tr '\0' x); n=%d
      while [ $i -lt $n ]; do
        i=$((i+1)); echo "line $i of $n $pad"
        [ $((i %% %d)) = 0 ] && sleep 1
      done
      exit 0
    resources: {requests: {cpu: 20m, memory: 16Mi}, limits: {cpu: 300m, memory: 32Mi}}
`

var counted = regexp.MustCompile(`^line (\d+) of \d+ x{150}$`)

// CountLines says what is wrong with the lines of a CountedPod.
func (s *Server) CountLines(ctx context.Context, namespace, pod string, lines int) error {
	rows, err := s.Logs(ctx, fmt.Sprintf(`{cluster=%q,namespace=%q,pod=%q} | stats by (_msg) count() n`, s.Cluster, namespace, pod), 2*lines)
	if err != nil {
		return err
	}
	seen := make([]bool, lines)
	lost, split, doubled := lines, 0, 0
	odd := ""
	for _, row := range rows {
		m := counted.FindStringSubmatch(row["_msg"])
		n := 0
		if m != nil {
			n, _ = strconv.Atoi(m[1])
		}
		if n < 1 || n > lines || seen[n-1] {
			split++
			odd = row["_msg"]
			continue
		}
		seen[n-1] = true
		lost--
		if row["n"] != "1" {
			doubled++
			odd = fmt.Sprintf("%s times %s", row["n"], row["_msg"])
		}
	}
	if lost+split+doubled > 0 {
		first := 0
		for first < lines && seen[first] {
			first++
		}
		return fmt.Errorf("of %d lines %d are lost (the first is %d), %d split, %d doubled: %q", lines, lost, first+1, split, doubled, odd)
	}
	return nil
}
