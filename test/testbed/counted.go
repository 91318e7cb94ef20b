package testbed

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// WritingPod is the manifest of a pod whose container runs a shell script, and ends with it.
func WritingPod(name, namespace, script string) string {
	return fmt.Sprintf(`---
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
      %s
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 300m, memory: 32Mi}}
`, name, namespace, strings.ReplaceAll(strings.TrimSpace(script), "\n", "\n      "))
}

// CountedPod is the manifest of a writer that numbers its lines: so many of some 200 bytes,
// so many a second.
func CountedPod(name, namespace string, lines, perSecond int) string {
	return WritingPod(name, namespace, fmt.Sprintf(`
i=0; pad=$(head -c 150 /dev/zero | tr '\0' x); n=%d
while [ $i -lt $n ]; do
  i=$((i+1)); echo "line $i of $n $pad"
  [ $((i %% %d)) = 0 ] && sleep 1
done
exit 0`, lines, perSecond))
}

// Written is what a pod wrote.
type Written struct {
	Namespace, Pod string
	Lines          int // each with a number, from 0
	// Line gives the number of a line, of which a record may have several; ok is false for
	// what the pod did not write.
	Line func(text string) (n int, ok bool)
	// Filler is how many x each line ends with, where they are so many that it comes in pieces:
	// the first has the line's number, and those after it are nothing but x. 0: all is one piece.
	Filler int
}

var countedLine = regexp.MustCompile(`^line (\d+) of \d+ x{150}$`)

// CountedLines is what a CountedPod wrote.
func CountedLines(namespace, pod string, lines int) Written {
	return Written{Namespace: namespace, Pod: pod, Lines: lines, Line: func(text string) (int, bool) { return Numbered(countedLine, text) }}
}

// Numbered gives the number in a line, which counts from 1, as one from 0.
func Numbered(form *regexp.Regexp, text string) (n int, ok bool) {
	m := form.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n - 1, err == nil
}

// Tally is what the server has of what a pod wrote.
type Tally struct {
	Here, Lost, Doubled, Split int
	Told                       int    // are not there, and are told as lost: exactly so many, or within a range of time
	Wrong                      int    // are told as lost, and are there
	Gaps, Numbered             int    // what was told, and the lines of that which has a number
	Records                    int    // that the lines are in
	First                      string // some of what is wrong
}

func (t *Tally) String() string {
	return fmt.Sprintf("%d lines in %d records, %d lost, %d split, %d doubled; %d told as lost (%d ranges, %d lines by number, %d wrong)%s",
		t.Here, t.Records, t.Lost, t.Split, t.Doubled, t.Told, t.Gaps, t.Numbered, t.Wrong, t.First)
}

// Err is nil where each line is there once, and whole, or told as lost.
func (t *Tally) Err() error {
	if t.Lost+t.Split+t.Doubled+t.Wrong > 0 {
		return errors.New(t.String())
	}
	return nil
}

const maxFirst = 1000 // bytes of Tally.First

func (t *Tally) note(format string, args ...any) {
	if len(t.First) < maxFirst {
		t.First += fmt.Sprintf("; "+format, args...)
	}
}

// gap is what was told as lost.
type gap struct {
	from, until time.Time
	lines       int // 0: nobody knows
}

func gapOf(row LogRow) (g gap, err error) {
	if g.lines, err = strconv.Atoi(row["crowsnest_dropped_lines"]); err != nil {
		return g, fmt.Errorf("lines are told as lost without their number: %w", err)
	}
	if from := row["crowsnest_dropped_from"]; from != "" { // else all before is
		if g.from, err = time.Parse(time.RFC3339Nano, from); err != nil {
			return g, fmt.Errorf("when lines that are told as lost begin: %w", err)
		}
	}
	if g.until, err = time.Parse(time.RFC3339Nano, row["crowsnest_dropped_until"]); err != nil {
		return g, fmt.Errorf("when lines that are told as lost end: %w", err)
	}
	return g, nil
}

// Count counts what the server has of what a pod wrote.
func (s *Server) Count(ctx context.Context, w Written) (*Tally, error) {
	rows, err := s.Logs(ctx, fmt.Sprintf(`{cluster=%q,namespace=%q,pod=%q} | fields _time, _msg, crowsnest_dropped_lines, crowsnest_dropped_from, crowsnest_dropped_until`,
		s.Cluster, w.Namespace, w.Pod), 0)
	if err != nil {
		return nil, err
	}
	return w.count(rows)
}

func (w Written) count(rows []LogRow) (*Tally, error) {
	t := &Tally{}
	times, filler := make([]time.Time, w.Lines), make([]int, w.Lines)
	var gaps []gap
	type timed struct {
		LogRow
		at time.Time
	}
	order := make([]timed, len(rows))
	for i, row := range rows {
		order[i] = timed{row, row.Time()}
	}
	slices.SortStableFunc(order, func(a, b timed) int { return a.at.Compare(b.at) })
	last := -1 // line of the piece before
	for _, row := range order {
		if row.LogRow["crowsnest_dropped_lines"] != "" {
			g, err := gapOf(row.LogRow)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.Pod, err)
			}
			gaps, t.Gaps, t.Numbered = append(gaps, g), t.Gaps+1, t.Numbered+g.lines
			continue
		}
		t.Records++
		for text := range strings.SplitSeq(row.LogRow["_msg"], "\n") {
			n, ok := w.Line(text)
			switch more := strings.Trim(text, "x") == ""; {
			case ok && n >= 0 && n < w.Lines:
				if !times[n].IsZero() {
					t.Doubled++
					t.note("there again: %.60q", text)
				}
				times[n], last = row.at, n
				filler[n] += len(text) - len(strings.TrimRight(text, "x"))
			case w.Filler > 0 && more && last >= 0:
				filler[last] += len(text)
			case w.Filler == 0 || !more:
				t.Split++
				t.note("nothing of this was written: %.60q", text)
			}
		}
	}
	for n := range filler {
		if w.Filler == 0 || times[n].IsZero() || filler[n] == w.Filler {
			continue
		}
		if filler[n] < w.Filler && len(gaps) > 0 {
			times[n] = time.Time{} // a part of it is lost
			continue
		}
		t.Split++
		t.note("line %d has %d of %d bytes", n+1, filler[n], w.Filler)
	}
	w.miss(t, times, gaps)
	return t, nil
}

// miss judges what is not there by what is told as lost. Of that the times are not known, but
// those of the lines before and after it.
func (w Written) miss(t *Tally, times []time.Time, gaps []gap) {
	exact := !slices.ContainsFunc(gaps, func(g gap) bool { return g.lines == 0 })
	missing := 0
	for from := 0; from < w.Lines; from++ {
		if !times[from].IsZero() {
			t.Here++
			continue
		}
		to := from
		for to < w.Lines && times[to].IsZero() {
			to++
		}
		missing += to - from
		told := slices.ContainsFunc(gaps, func(g gap) bool {
			return (from == 0 || !g.until.Before(times[from-1])) && (to == w.Lines || !g.from.After(times[to]))
		})
		if told {
			t.Told += to - from
		} else {
			t.Lost += to - from
		}
		if !told || !exact {
			t.note("lines %d to %d of %d are not there, told: %t", from+1, to, w.Lines, told)
		}
		from = to - 1
	}
	if t.Wrong = max(0, t.Numbered-missing); t.Wrong > 0 || exact && t.Numbered < missing {
		t.note("%d lines are told as lost by number, %d are", t.Numbered, missing)
	}
	if exact && t.Lost == 0 {
		t.Lost = max(0, missing-t.Numbered)
		t.Told -= t.Lost
	}
}

// CountLines says what is wrong with the lines of a CountedPod, of which none may be lost.
func (s *Server) CountLines(ctx context.Context, namespace, pod string, lines int) error {
	t, err := s.Count(ctx, CountedLines(namespace, pod, lines))
	if err != nil {
		return err
	}
	if t.Here < lines {
		return errors.New(t.String())
	}
	return t.Err()
}
