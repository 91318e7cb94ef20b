package logs

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

var update = flag.Bool("update", false, "rewrite golden files")

// joined gives the records that a joiner makes of lines.
func joined(j joiner, lines []string) []string {
	var out []string
	var s join
	first := ""
	for _, l := range lines {
		if len(out) > 0 {
			if after, ok := j.next(s, first, l); ok {
				s = after
				out[len(out)-1] += "\n" + l
				continue
			}
		}
		s, first = j.begin(l, false), l
		out = append(out, l)
	}
	return out
}

// Each file has what programs of one language write; its golden file has a bar
// at the margin of all lines of a record but the first.
func TestJoinLanguages(t *testing.T) {
	files, err := filepath.Glob("testdata/join/*.log")
	if err != nil || len(files) < 8 {
		t.Fatalf("files are %v, %v", files, err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, r := range joined(joiner{}, strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")) {
			b.WriteString("  " + strings.ReplaceAll(r, "\n", "\n| ") + "\n")
		}
		golden := strings.TrimSuffix(name, ".log") + ".golden"
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("%s: got\n%s", name, b.String())
		}
	}
}

func TestServesPanic(t *testing.T) {
	const text = ": panic serving "
	for _, line := range []string{
		"2026/11/23 10:00:00 http: panic serving 10.0.0.1:4711: boom", text, text[1:], text[:len(text)-1], "v", "vvvv: panic serving v", ": panic serv", "a very vivid: panic servant",
		"vvvvvvvvvvvvvv: panic ser: panic serving ", ": panic servin: panic serving", "no such thing", "",
	} {
		if got, want := servesPanic(line), strings.Contains(line, text); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

func TestJoinByAnnotation(t *testing.T) {
	id := Container{Container: "app"}
	lines := []string{"# one", "a", "{}", "", "# two", "  b"}
	for name, tc := range map[string]struct {
		annotations map[string]string
		records     int
		wrong       string
	}{
		"none":             {nil, 5, ""},
		"own pattern":      {map[string]string{object.AnnotationMultiline: "^# "}, 2, ""},
		"of the container": {map[string]string{object.AnnotationMultiline: "off", object.AnnotationMultiline + ".app": "^# "}, 2, ""},
		"of another":       {map[string]string{object.AnnotationMultiline + ".sidecar": "^# "}, 5, ""},
		"off":              {map[string]string{object.AnnotationMultiline: "off"}, 6, ""},
		"no expression":    {map[string]string{object.AnnotationMultiline: "("}, 5, "must be a regular expression"},
		"too long":         {map[string]string{object.AnnotationMultiline: strings.Repeat("a", wire.MaxMultilineBytes+1)}, 5, "at most"},
	} {
		j, err := joining{}.of(id, &object.Pod{Annotations: tc.annotations})
		if (err != nil) != (tc.wrong != "") || err != nil && !strings.Contains(err.Error(), tc.wrong) {
			t.Errorf("%s: %v, want %q", name, err, tc.wrong)
		}
		if got := joined(j, lines); len(got) != tc.records {
			t.Errorf("%s: %d records, want %d: %q", name, len(got), tc.records, got)
		}
	}
}

// A pod's annotation wins over a rule, the first rule that matches over the others, and any
// rule over what is done without.
func TestJoinByRules(t *testing.T) {
	shop := func(r JoinRule) JoinRule {
		r.Select.Namespaces = []string{"shop"}
		return r
	}
	marked := JoinRule{Start: "^# "} // two records
	pod := object.Pod{
		Meta:        object.Meta{Namespace: "shop", Labels: map[string]string{"tier": "web"}},
		Workload:    object.WorkloadRef{Type: "deployment", Name: "cart"},
		Annotations: map[string]string{object.AnnotationLogs + "team": "a"},
	}
	off, broken := pod, pod
	off.Annotations = map[string]string{object.AnnotationMultiline: "off"}
	broken.Annotations = map[string]string{object.AnnotationMultiline: "("}
	lines := []string{"# one", "a", "{}", "", "# two", "  b"}
	for name, tc := range map[string]struct {
		off     bool
		rules   []JoinRule
		pod     *object.Pod
		records int
	}{
		"none":                       {false, nil, &pod, 5},
		"none, joining off":          {true, nil, &pod, 6},
		"for all":                    {false, []JoinRule{marked}, &pod, 2},
		"over joining off":           {true, []JoinRule{marked}, &pod, 2},
		"the first decides":          {false, []JoinRule{shop(JoinRule{Off: true}), marked}, &pod, 6},
		"the first that matches":     {false, []JoinRule{{Off: true, Select: SelectOptions{Namespaces: []string{"!shop"}}}, shop(marked)}, &pod, 2},
		"the container":              {false, []JoinRule{{Start: "^# ", Containers: []string{"a*"}}}, &pod, 2},
		"another container":          {false, []JoinRule{{Start: "^# ", Containers: []string{"!app"}}}, &pod, 5},
		"the workload":               {false, []JoinRule{{Start: "^# ", Select: SelectOptions{Workloads: []string{"deployment/cart"}}}}, &pod, 2},
		"another workload":           {false, []JoinRule{{Start: "^# ", Select: SelectOptions{Workloads: []string{"!*/cart"}}}}, &pod, 5},
		"the labels":                 {false, []JoinRule{{Start: "^# ", Select: SelectOptions{Labels: "tier=web"}}}, &pod, 2},
		"other labels":               {false, []JoinRule{{Start: "^# ", Select: SelectOptions{Labels: "tier=db"}}}, &pod, 5},
		"the annotations":            {false, []JoinRule{{Start: "^# ", Select: SelectOptions{Annotations: "logs.crowsnest.dev/team=a"}}}, &pod, 2},
		"the pod's own wins":         {false, []JoinRule{marked}, &off, 6},
		"not one that is broken":     {false, []JoinRule{marked}, &broken, 2},
		"unknown pod, by its names":  {false, []JoinRule{shop(marked)}, nil, 2},
		"unknown pod, by its labels": {false, []JoinRule{{Start: "^# ", Select: SelectOptions{Labels: "!tier"}}}, nil, 5},
	} {
		ways, err := newJoining(JoinOptions{Off: tc.off, Rules: tc.rules})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		j, err := ways.of(Container{Namespace: "shop", Container: "app"}, tc.pod)
		if (err != nil) != (tc.pod == &broken) {
			t.Errorf("%s: %v", name, err)
		}
		if got := joined(j, lines); len(got) != tc.records {
			t.Errorf("%s: %d records, want %d: %q", name, len(got), tc.records, got)
		}
	}
	for want, r := range map[string]JoinRule{"either": {}, "off": {Start: "a", Off: true}, "missing closing": {Start: "("}, "at most": {Start: strings.Repeat("a", wire.MaxMultilineBytes+1)}, "no pattern": {Off: true, Containers: []string{"["}}} {
		if _, err := newJoining(JoinOptions{Rules: []JoinRule{marked, r}}); err == nil || !strings.Contains(err.Error(), "rule 2") || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want the rule and %q", r, err, want)
		}
	}
}

// What the server says is gone by from the next Run on; what it says wrongly changes nothing.
func TestFilesJoinByRules(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	f, err := NewFiles(tr.options())
	if err != nil {
		t.Fatal(err)
	}
	rules := tr.options().Rules
	rules.Join.Rules = []JoinRule{{Select: SelectOptions{Workloads: []string{"deployment/cart"}}, Start: "^# "}}
	if err := f.SetRules(rules); err != nil {
		t.Fatal(err)
	}
	rules.Join.Rules = []JoinRule{{Start: "("}}
	if err := f.SetRules(rules); err == nil {
		t.Error("a pattern that is no expression is taken")
	}
	for i, line := range []string{"# one", "a", "", "# two", "b"} {
		tr.raw("0.log", cri(i, "stdout", "F", line))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, s) }()
	got := s.await(key, 2)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if want := []string{"# one\na", "# two\nb"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Where every line is a record, a private key is one as well: it could not be masked else.
func TestJoinPrivateKeysAlways(t *testing.T) {
	lines := []string{"  one", "key: -----BEGIN PRIVATE KEY-----", "MIIE", "  q83v", "-----END PRIVATE KEY-----", "  two", "-----BEGIN CERTIFICATE-----", "MIIE"}
	want := []string{lines[0], strings.Join(lines[1:5], "\n"), lines[5], lines[6], lines[7]}
	if got := joined(joiner{off: true}, lines); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever is written, each line is in the records once and in its order.
func FuzzJoin(f *testing.F) {
	files, err := filepath.Glob("testdata/join/*.log")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw), "")
	}
	f.Add("ERROR boom boom\npanic: boom boo\n", "") // of the same length
	f.Add("a\n\x00\xff\n{\n\t\n}\n", "^a")
	f.Fuzz(func(t *testing.T, text, pattern string) {
		j := joiner{}
		if pattern != "" {
			if j.start, _ = regexp.Compile(pattern); j.start == nil {
				return
			}
		}
		lines := strings.Split(text, "\n")
		records := joined(j, lines)
		if got := strings.Join(records, "\n"); got != text {
			t.Fatalf("got %q of %q", got, text)
		}
		j.last = &opening{}
		if got := joined(j, lines); !slices.Equal(got, records) {
			t.Fatalf("got %q, want %q, as without what is remembered of a line", got, records)
		}
	})
}

func TestFilesJoinLines(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.raw("0.log", cri(1, "stdout", "F", "ERROR it broke")+cri(2, "stderr", "F", "first")+cri(2, "stdout", "F", "java.lang.Error: x")+cri(2, "stdout", "F", "\tat a.B.c(D.java:1)")+
		cri(3, "stderr", "P", "  sec")+cri(3, "stdout", "F", `{"msg":"whole"}`)+cri(3, "stderr", "F", "ond")+cri(3, "stdout", "P", `{"msg":`)+cri(3, "stdout", "F", `"in parts"}`)+
		cri(4, "stdout", "F", "before the gap")+cri(4+3000, "stdout", "F", "  after it"))
	_, stop := tr.run(s)
	got := s.await(key, 5)
	want := []string{"ERROR it broke\njava.lang.Error: x\n\tat a.B.c(D.java:1)", "whole", "in parts", "before the gap", "  after it"}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if got := s.await("cart-1/app/stderr", 1); got[0] != "first\n  second" {
		t.Errorf("stderr is %q", got)
	}
	stop()
	if fields := s.fields[0]; fields["level"] != "error" {
		t.Errorf("fields are %v", fields)
	}
}

// flat gives lines as they were before they were joined.
func flat(records []string) []string {
	var out []string
	for _, r := range records {
		out = append(out, strings.Split(r, "\n")...)
	}
	return out
}

// A trace of 64 k lines does not fit into one record; no line is lost, split or
// doubled, wherever a kill comes.
func TestFilesLongTraces(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	const frames = 64 << 10
	var b strings.Builder
	want := []string{"ERROR deep", "java.lang.StackOverflowError: x"}
	for i := range frames {
		want = append(want, fmt.Sprintf("\tat com.shop.Deep.down(Deep.java:%d)", i))
		if i%1000 == 999 {
			want = append(want, fmt.Sprintf("Caused by: com.shop.E: %d", i))
		}
	}
	want = append(want, "after it")
	for i, l := range want {
		b.WriteString(cri(i/100, "stdout", "F", l))
		if i%5000 == 0 {
			b.WriteString(cri(i/100, "stderr", "F", fmt.Sprintf("line %d", i/5000)))
		}
	}
	text := b.String()
	for at, i := 0, 0; at < len(text); i++ {
		n := min(len(text)-at, 700_001)
		if i == 2 { // whole lines before a rotation
			n = strings.LastIndexByte(text[:at+n], '\n') + 1 - at
		}
		tr.raw("0.log", text[at:at+n])
		at += n
		before := len(s.got(key))
		_, stop := tr.run(s)
		if i%2 == 0 {
			waitFor(t, func() bool { return len(s.got(key)) > before })
		}
		if i == 2 {
			tr.rename("0.log", "0.log.20261123-100000")
		}
		kill(t, s, tr.positions(), stop)
	}
	f, stop := tr.run(s)
	waitFor(t, func() bool { return len(flat(s.got(key))) >= len(want) })
	stop()
	got := flat(s.got(key))
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("line %d of %d is %q, want %q", i, len(got), got[i], want[i])
		}
	}
	if n := len(s.got(key)); len(got) != len(want) || n > 200 {
		t.Errorf("%d lines in %d records, want %d in some 70", len(got), n, len(want))
	}
	numbered(t, s.got("cart-1/app/stderr"), len(want)/5000+1)
	if h := f.Health(); len(h.Dropped) > 0 {
		t.Errorf("health is %+v", h)
	}
}

// Two streams interleave, records are open at every moment, and kills come at any.
func TestFilesJoinedAndKilled(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	n := 0
	for i := range 25 {
		_, stop := tr.run(s)
		for k := range 8 {
			var b strings.Builder
			for range 1 + (i*7+k*3)%11 {
				text := fmt.Sprintf("line %d", n)
				if n%3 != 0 {
					text = "  " + text
				}
				b.WriteString(cri(n, "stdout", "F", text))
				b.WriteString(cri(n, "stderr", []string{"P", "F"}[n%2], fmt.Sprintf("<%d>", n)))
				n++
			}
			tr.raw("0.log", b.String())
			if k == i%8 && i > 0 { // what was rotated before the first start is not read
				tr.rename("0.log", fmt.Sprintf("0.log.20261123-10%04d", i))
			}
			if k%3 == 0 {
				time.Sleep(time.Duration(i%4) * 8 * time.Millisecond) // lets records be held for too long
			}
		}
		if i%2 == 0 {
			s.set(func() { s.lost = s.batches + i%3 })
			time.Sleep(time.Duration(i%5) * 10 * time.Millisecond)
		}
		if i == 0 { // else the next start is the first one once more, and a rotated file is not read
			waitFor(t, func() bool {
				_, err := os.Stat(tr.positions())
				return err == nil
			})
		}
		kill(t, s, tr.positions(), stop)
		s.set(func() { s.lost = -1 })
	}
	for ; n%6 != 0; n++ {
		tr.raw("0.log", cri(n, "stdout", "F", fmt.Sprintf("line %d", n))+cri(n, "stderr", []string{"P", "F"}[n%2], fmt.Sprintf("<%d>", n)))
	}
	_, stop := tr.run(s)
	waitFor(t, func() bool {
		return len(flat(s.got(key))) >= n && strings.Count(strings.Join(s.got("cart-1/app/stderr"), ""), "<") >= n
	})
	stop()
	got := flat(s.got(key))
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	numbered(t, got, n)
	for i, l := range flat(s.got("cart-1/app/stderr")) {
		if want := fmt.Sprintf("<%d><%d>", 2*i, 2*i+1); l != want {
			t.Fatalf("line %d of stderr is %q, want %q", i, l, want)
		}
	}
}

func TestFilesJoinOverCopyTruncate(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	_, stop := tr.run(s)
	for i := range 6 {
		text := cri(10*i, "stdout", "F", fmt.Sprintf("head %d", i)) + cri(10*i+1, "stdout", "F", "  more")
		tr.raw("0.log", text)
		if i%2 == 0 {
			s.await(key, i+1) // else it may still be held
		}
		tr.copyTruncate(fmt.Sprintf("0.log.2026112310000%d", i))
	}
	got := s.await(key, 6)
	stop()
	for i, l := range got {
		if want := fmt.Sprintf("head %d\n  more", i); l != want || len(got) != 6 {
			t.Fatalf("record %d of %d is %q, want %q", i, len(got), l, want)
		}
	}
}

// A record is bounded in lines, bytes and time, whichever way its lines come. What goes
// on after a bound is a further record, of the same kind.
func TestJoiningIsBounded(t *testing.T) {
	const name = "ERROR deep\njava.lang.Error: x"
	type line struct {
		after time.Duration // since the one before
		text  string
	}
	trace := func(n int, after time.Duration) []line {
		lines := []line{{0, "ERROR deep"}, {0, "java.lang.Error: x"}}
		for i := range n {
			lines = append(lines, line{after, fmt.Sprintf("\tat f.g(F.java:%03d)", i)})
		}
		return append(lines, line{0, "after it"})
	}
	frames := func(from, to int) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, "\n\tat f.g(F.java:%03d)", i)
		}
		return b.String()
	}
	further := func(from, to int) string { return frames(from, to)[1:] }
	for title, tc := range map[string]struct {
		o     JoinOptions
		lines []line
		want  []string
	}{
		"within all bounds":   {JoinOptions{}, trace(20, 200*time.Millisecond), []string{name + frames(0, 20), "after it"}},
		"lines":               {JoinOptions{Lines: 10}, trace(20, 0), []string{name + frames(0, 8), further(8, 18), further(18, 20), "after it"}},
		"bytes":               {JoinOptions{Bytes: 100}, trace(9, 0), []string{name + frames(0, 3), further(3, 8), further(8, 9), "after it"}},
		"time between two":    {JoinOptions{}, trace(2, joinGap), []string{name + frames(0, 2), "after it"}},
		"more between two":    {JoinOptions{}, trace(2, joinGap+time.Millisecond), []string{name, further(0, 1), further(1, 2), "after it"}},
		"time of all":         {JoinOptions{}, trace(13, time.Second), []string{name + frames(0, 5), further(5, 11), further(11, 13), "after it"}},
		"a line all the time": {JoinOptions{}, trace(100, joinFor/50), []string{name + frames(0, 50), further(50, 100), "after it"}},
	} {
		t.Run(title, func(t *testing.T) {
			tc.o.Hold = time.Minute // how long a look takes plays no part
			tr, s := newTree(t), newServer(t)
			o := tr.options()
			o.Rules.Join = tc.o
			at := time.Duration(0)
			for _, l := range append(tc.lines, line{0, `{"end":1}`}) {
				at += l.after
				tr.raw("0.log", cri(int(at/time.Millisecond), "stdout", "F", l.text))
			}
			_, stop := tr.runWith(o, s)
			got := s.await(key, len(tc.want)+1)
			stop()
			if want := append(tc.want, `{"end":1}`); !slices.Equal(got, want) {
				t.Errorf("files: got %q, want %q", got, want)
			}

			c, s := newCluster(t), newServer(t)
			a := c.options(s)
			a.Rules.Join = tc.o
			at = 0
			c.set(func() {
				for _, l := range append(tc.lines, line{0, `{"end":1}`}) {
					at += l.after
					c.lines[0] = append(c.lines[0], c.started.Add(at).UTC().Format(time.RFC3339Nano)+" "+l.text+"\n")
				}
			})
			_, stop = c.run(a, s)
			got = s.await(key, len(tc.want)+1)
			stop()
			if want := append(tc.want, `{"end":1}`); !slices.Equal(got, want) {
				t.Errorf("pod log API: got %q, want %q", got, want)
			}
		})
	}
}

// A record that waits for a further line is sent after the hold, and what comes then is
// a record of its own.
func TestJoiningHoldsForABoundedTime(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	_, stop := tr.run(s)
	defer stop()
	tr.raw("0.log", cri(0, "stdout", "F", "ERROR deep"))
	s.await(key, 1) // nothing follows it
	tr.raw("0.log", cri(1, "stdout", "F", "\tat f.g(F.java:1)"))
	if got := s.await(key, 2); got[0] != "ERROR deep" || got[1] != "\tat f.g(F.java:1)" {
		t.Errorf("got %q", got)
	}
}

func TestJoinOptionsAreChecked(t *testing.T) {
	o := FilesOptions{Dir: t.TempDir(), Sender: "node/n1", Rules: Rules{Join: JoinOptions{Bytes: wire.MaxLogLineBytes + 1}}}
	if _, err := NewFiles(o); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("got %v, want the bound named", err)
	}
}
