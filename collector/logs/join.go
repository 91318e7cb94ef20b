package logs

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// JoinOptions say how lines that belong together become one record.
type JoinOptions struct {
	Off   bool          // every line is a record, but for private keys, which are masked as a whole
	Rules []JoinRule    // the first that matches a container decides, not Off
	Lines int           // of a record; default 1,000. What follows is a record of its own
	Bytes int           // of a record; default and at most wire.MaxLogLineBytes
	Hold  time.Duration // how long a record waits for a further line; default 500 ms
}

// JoinRule says how the lines of the containers that it selects become records.
type JoinRule struct {
	Select     SelectOptions // without Services: they come and go while a record is open
	Containers []string      // patterns of names, as SelectOptions has them
	Start      string        // regular expression: a line that matches begins a record, any other continues one
	Off        bool          // instead of Start: every line is a record
}

func (o *JoinOptions) complete() error {
	if o.Lines == 0 {
		o.Lines = 1000
	}
	if o.Bytes == 0 {
		o.Bytes = wire.MaxLogLineBytes
	}
	if o.Hold == 0 {
		o.Hold = 500 * time.Millisecond
	}
	if o.Lines < 0 || o.Bytes < 0 || o.Bytes > wire.MaxLogLineBytes || o.Hold < 0 {
		return fmt.Errorf("a joined record may have 1 line or more, and 1 to %d bytes", wire.MaxLogLineBytes)
	}
	return nil
}

// joinGap is the most that may lie between the times of two lines of a record.
// It is longer than Hold, as times are those of the writer.
const joinGap = 2 * time.Second

// joinFor bounds the times of all lines of a record, so that one to which lines are
// added all the time can be found. What follows is a record of its own.
const joinFor = 5 * time.Second

// trace is what kind of record the lines so far are.
type trace uint8

const (
	tracePlain       trace = iota // one line, and what is indented below it
	traceFrames                   // frames of Java, .NET, Node and others
	traceCause                    // after "Caused by: …", before its frames
	tracePython                   // after "Traceback (most recent call last):"
	tracePythonEnd                // after the exception's own line
	tracePythonChain              // after "During handling of the above exception …"
	traceGoPanic                  // after "panic: …", before the first goroutine
	traceGo                       // in a goroutine's frames
	traceNodeSource               // after "/app/index.js:3", before the error itself
	traceNodeEnd                  // after its frames
	traceRuby
	tracePHP
	traceRust
	tracePEM // a key or certificate, so that it can be masked as a whole
)

// stray bounds the lines without a form of their own in a message of several lines or
// in the source that Node shows.
const stray = 16

// join is the state of a record that may go on. Its methods do not change it.
type join struct {
	kind     trace
	lines    int
	indent   int  // of the first line
	indented bool // the last line was indented below the first
	blank    bool // the last line was empty
	stray    int
	whole    bool // nothing can follow
}

// joiner decides what belongs together. The zero joiner joins by the forms of
// common languages and by indentation.
type joiner struct {
	off   bool
	start *regexp.Regexp // a line that matches begins a record, any other continues one
	last  *opening       // if set, what was found of the line that was asked about last
}

// opening is the kind of trace that a line begins. Most lines are asked about twice:
// whether they go on with a record, and how their own begins.
type opening struct {
	line string
	kind trace
}

func (j joiner) opens(line string) trace {
	if j.last == nil {
		return opens(line)
	}
	if j.last.line != line {
		*j.last = opening{line, opens(line)}
	}
	return j.last.kind
}

// joining is a JoinOptions that was understood.
type joining struct {
	off   bool
	rules []joinRule
}

type joinRule struct {
	selects    selection
	containers []string
	ofPod      bool // asks for more than the names that a container's log has
	joiner     joiner
}

func newJoining(o JoinOptions) (joining, error) {
	j := joining{off: o.Off}
	for i, r := range o.Rules {
		start, err := startOf(r.Start)
		if (r.Start != "") == r.Off {
			err = errors.New("needs either a start or to be off")
		}
		selects, serr := newSelection(r.Select)
		if err = errors.Join(err, serr, checkPatterns(r.Containers)); err != nil {
			return joining{}, fmt.Errorf("rule %d on multi-line records: %w", i+1, err)
		}
		j.rules = append(j.rules, joinRule{selects, r.Containers, len(r.Select.Workloads) > 0 || r.Select.Labels != "" || r.Select.Annotations != "", joiner{off: r.Off, start: start}})
	}
	return j, nil
}

// startOf understands the expression of a record's first line; nil for none.
func startOf(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		return nil, nil
	}
	if len(pattern) > wire.MaxMultilineBytes {
		return nil, fmt.Errorf("the pattern has %d bytes, at most %d are taken", len(pattern), wire.MaxMultilineBytes)
	}
	return regexp.Compile(pattern)
}

// of follows a pod's annotation for all of its containers or, with a dot and a name
// behind it, for one; without any, the first rule that matches, and without that, how
// lines are joined by default. With an annotation that cannot be used, the error says
// why, and lines are joined as if there were none. A pod that is not known yet, nil, is
// matched only by rules that do not ask for it.
func (j joining) of(id Container, pod *object.Pod) (joiner, error) {
	var err error
	if pod != nil {
		value, ok := pod.Annotations[object.AnnotationMultiline+"."+id.Container]
		if !ok {
			value = pod.Annotations[object.AnnotationMultiline]
		}
		var start *regexp.Regexp
		if value == "off" {
			return joiner{off: true}, nil
		} else if start, err = startOf(value); err != nil {
			err = fmt.Errorf("%s must be a regular expression or off: %w", object.AnnotationMultiline, err)
		} else if start != nil {
			return joiner{start: start}, nil
		}
	}
	for _, r := range j.rules {
		if (pod != nil || !r.ofPod) && matches(r.containers, id.Container) && r.selects.takes(id, pod) {
			return r.joiner, err
		}
	}
	return joiner{off: j.off}, err
}

// begin is the state of a record that begins with line. rest says that more of
// the line is to come.
func (j joiner) begin(line string, rest bool) join {
	s := join{lines: 1}
	switch {
	case j.off:
		if s.whole = !beginsPEM(line) || !strings.Contains(line, "PRIVATE KEY"); !s.whole {
			s.kind = tracePEM
		}
	case j.start != nil:
	case line == "", !rest && isObject(line):
		s.whole = true
	default:
		s.indent = indentOf(line)
		s.kind = j.opens(line)
		if s.kind == tracePlain && s.indent > 0 && isFrame(line[s.indent:]) {
			s.kind = traceFrames
		}
	}
	return s
}

// next is the state after a further line; ok is false when the line begins a new
// record. first is the record's first line.
func (j joiner) next(s join, first, line string) (after join, ok bool) {
	if s.whole || j.off && s.kind != tracePEM {
		return s, false
	}
	after = s
	after.lines++
	if j.start != nil {
		return after, !j.start.MatchString(line)
	}
	after.blank, after.indented = false, false
	if line == "" {
		after.blank = true
		switch s.kind {
		case traceFrames, traceGoPanic, traceGo, tracePythonChain, traceNodeSource, traceNodeEnd, traceRuby, tracePHP:
			return after, !s.blank
		case tracePythonEnd, tracePEM: // a message may end with empty lines of its own
			return after, true
		}
		return s, false
	}
	if s.kind == tracePEM {
		after.whole = strings.Contains(line, "-----END ")
		return after, after.whole || isPEM(strings.TrimSpace(line))
	}
	if n := indentOf(line); n > 0 {
		return indented(s, after, line, n)
	}
	if line[0] == '{' && len(line) > 1 { // an object of JSON, or the first part of one
		return s, false
	}
	if isClosing(line) {
		return after, s.indented
	}
	if isCause(line) {
		after.kind, after.stray = traceFrames, 0
		if line[0] == 'C' {
			after.kind = traceCause
		}
		return after, true
	}
	if line == "Require stack:" { // of a module that Node does not find
		after.kind = traceNodeEnd
		return after, true
	}
	if line == "Stack trace:" || line == "[stacktrace]" || line == "PHP Stack trace:" {
		after.kind = tracePHP
		return after, true
	}
	if k, ok := continues(s, &after, line); ok {
		after.kind = k
		return after, true
	}
	// A trace right after the line that reports it is part of that report.
	if k := j.opens(line); s.kind == tracePlain && (k != tracePlain && k != tracePEM || isException(line)) && reports(first) {
		after.kind = k
		if k == tracePlain {
			after.kind = traceFrames
		}
		return after, true
	}
	return s, false
}

func indented(s, after join, line string, n int) (join, bool) {
	after.indented = true
	frame := isFrame(line[n:])
	switch s.kind {
	case tracePlain:
		if n <= s.indent {
			return s, false
		}
		if frame {
			after.kind = traceFrames
		}
	case traceCause:
		if frame {
			after.kind = traceFrames
		}
	case traceFrames: // .NET has an empty line between the causes of an AggregateException
		return after, !s.blank || strings.HasPrefix(line[n:], "---> ")
	case traceNodeSource:
		if frame {
			after.kind = traceNodeEnd
		}
	case traceGo, traceGoPanic, traceNodeEnd:
		return after, !s.blank || s.kind == traceGoPanic
	}
	return after, true
}

// continues says whether a line without indentation goes on with a trace, and of
// which kind it is then.
func continues(s join, after *join, line string) (trace, bool) {
	switch s.kind {
	case tracePython:
		return tracePythonEnd, true
	case traceCause:
		// The cause's message may have several lines.
		after.stray++
		return traceCause, s.stray < stray && !beginsAnew(line) && guessLevel(line) == ""
	case tracePythonEnd:
		if s.blank && (strings.HasPrefix(line, "During handling of the above exception") || strings.HasPrefix(line, "The above exception was the direct cause")) {
			return tracePythonChain, true
		}
		return tracePythonEnd, ofDatabase(line)
	case tracePythonChain:
		return tracePython, opens(line) == tracePython
	case traceGoPanic:
		if strings.HasPrefix(line, "goroutine ") {
			return traceGo, true
		}
		// The panic's message may have several lines.
		after.stray++
		return traceGoPanic, strings.HasPrefix(line, "[signal ") || s.stray < stray && !beginsAnew(line)
	case traceGo:
		return traceGo, isGoFrame(line)
	case traceNodeSource:
		if isException(line) {
			return traceNodeEnd, true
		}
		after.stray++
		return traceNodeSource, s.stray < 4 && (line[0] < '0' || line[0] > '9')
	case traceNodeEnd:
		return traceNodeEnd, s.blank && strings.HasPrefix(line, "Node.js v") || !s.blank && strings.HasPrefix(line, "- /")
	case traceRuby:
		return traceRuby, isRubyFrame(line) && (s.indented || line[len(line)-1] == '\'') || strings.HasPrefix(line, "Did you mean?") // a cause, a frame, or what Ruby says to the source that it shows
	case tracePHP:
		return tracePHP, line[0] == '#' && len(line) > 1 && line[1] >= '0' && line[1] <= '9' || line == `"}` || strings.HasPrefix(line, `"} `) ||
			strings.HasPrefix(line, "Next ") || strings.HasPrefix(line, "[previous exception] ") || strings.HasPrefix(line, "PHP  ")
	case traceRust:
		after.stray++
		return traceRust, s.stray == 0 || line == "stack backtrace:" || strings.HasPrefix(line, "note: ")
	}
	return s.kind, false
}

// opens says which trace a line begins.
func opens(line string) trace {
	const traceback = "Traceback (most recent call last):"
	switch line[0] {
	case 'p':
		if strings.HasPrefix(line, "panic: ") {
			return traceGoPanic
		}
	case 'f':
		if strings.HasPrefix(line, "fatal error: ") {
			return traceGoPanic
		}
	case 'S':
		if strings.HasPrefix(line, "SIGQUIT: ") || strings.HasPrefix(line, "SIGABRT: ") {
			return traceGoPanic
		}
	case 'g':
		if strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(line, "]:") {
			return traceGo
		}
	case 't':
		if strings.HasPrefix(line, "thread '") && strings.Contains(line, "' panicked at ") {
			return traceRust
		}
	}
	switch line[len(line)-1] {
	case ':':
		if strings.HasSuffix(line, traceback) {
			if strings.HasSuffix(line, "Exception Group "+traceback) {
				return traceFrames // all of it is indented
			}
			return tracePython
		}
	case '-':
		if beginsPEM(line) {
			return tracePEM
		}
	case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		if isSource(line) {
			return traceNodeSource
		}
	}
	if isRubyFrame(line) {
		return traceRuby
	}
	if servesPanic(line) {
		return traceGoPanic
	}
	return tracePlain
}

// beginsPEM recognises the first line of a key or certificate, whatever stands before it.
func beginsPEM(line string) bool {
	if !strings.HasSuffix(line, "-----") {
		return false
	}
	i := strings.LastIndex(line, "-----BEGIN ")
	return i >= 0 && !strings.Contains(line[i:], "-----END ")
}

// isPEM says whether a line, without its indentation, may be of a key: base64, or a header.
func isPEM(line string) bool {
	for i := range len(line) {
		switch c := line[i]; {
		case c >= '0' && c <= '9', isLetter(c), c == '+', c == '/', c == '=':
		default:
			return slices.ContainsFunc([]string{"Proc-Type: ", "DEK-Info: ", "Version: ", "Comment: "}, func(p string) bool { return strings.HasPrefix(line, p) })
		}
	}
	return true
}

// servesPanic recognises "2026/11/23 10:00:00 http: panic serving 10.0.0.1:4711: text".
// It looks for the text's rarest letter: each line is asked, and looking for the whole
// took a long one as much time as all else about a line's beginning.
func servesPanic(line string) bool {
	const text, before = ": panic serving ", len(": panic ser")
	for from := before; from < len(line); {
		i := strings.IndexByte(line[from:], 'v')
		if i < 0 {
			return false
		}
		if from += i; strings.HasPrefix(line[from-before:], text) {
			return true
		}
		from++
	}
	return false
}

// reports says whether a line is one that a trace may follow.
func reports(line string) bool {
	switch guessLevel(line) {
	case "warn", "error", "fatal":
		return true
	}
	return len(line) < 4<<10 && (strings.Contains(line, "xception") || strings.Contains(line, "level=error") || strings.Contains(line, "level=fatal"))
}

// beginsAnew says whether a line begins as those of a log do, with a time or in brackets.
func beginsAnew(line string) bool { return line[0] >= '0' && line[0] <= '9' || line[0] == '[' }

// ofDatabase recognises what PostgreSQL and SQLAlchemy put below the first line of an
// exception's message.
func ofDatabase(line string) bool {
	for _, p := range [...]string{"DETAIL:  ", "HINT:  ", "CONTEXT:  ", "LINE ", "[SQL: ", "[parameters: ", "(Background on this error at: "} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}

func indentOf(s string) int {
	n := 0
	for n < len(s) && (s[n] == ' ' || s[n] == '\t') {
		n++
	}
	return n
}

func isObject(s string) bool { return s[0] == '{' && len(s) > 1 && s[len(s)-1] == '}' }

// isFrame looks at a line without its indentation.
func isFrame(s string) bool {
	return strings.HasPrefix(s, "at ") || strings.HasPrefix(s, "... ") || strings.HasPrefix(s, "from ") || strings.HasPrefix(s, `File "`)
}

// isClosing says whether a line only closes brackets that others opened.
func isClosing(s string) bool {
	if len(s) > 8 {
		return false
	}
	for i := range len(s) {
		switch s[i] {
		case '}', ']', ')':
		case ',', ';':
			if i == 0 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// isCause recognises what stands between the traces of an error and of its cause.
func isCause(s string) bool {
	switch s[0] {
	case 'C':
		return strings.HasPrefix(s, "Caused by: ")
	case 'S':
		return strings.HasPrefix(s, "Suppressed: ")
	case 'W':
		return strings.HasPrefix(s, "Wrapped by: ")
	case '-':
		return strings.HasPrefix(s, "--- End of ") || strings.HasPrefix(s, "---> ")
	}
	return false
}

// isException recognises "java.lang.IllegalStateException: text", "TypeError: text",
// "Error [ERR_X]: text".
func isException(s string) bool {
	s = strings.TrimPrefix(s, "Uncaught ")
	n := 0
	for n < len(s) && (s[n] >= 'a' && s[n] <= 'z' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= '0' && s[n] <= '9' || s[n] == '.' || s[n] == '_' || s[n] == '$') {
		n++
	}
	if n < len(s) && s[n] != ':' && !(s[n] == ' ' && strings.HasPrefix(s[n:], " [")) {
		return false
	}
	name := s[:n]
	return strings.HasSuffix(name, "Exception") || strings.HasSuffix(name, "Error") || strings.HasSuffix(name, "Throwable")
}

// isGoFrame recognises "main.(*T).f(0x1, {0x2})" and what else stands at the
// margin of a goroutine dump.
func isGoFrame(s string) bool {
	for _, p := range [...]string{"goroutine ", "created by ", "exit status ", "[signal ", "...additional frames", "...(", "runtime stack:"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	if i := strings.IndexByte(s, '('); i > 0 && s[len(s)-1] == ')' && strings.IndexByte(s[:i], ' ') < 0 {
		return true
	}
	name, value, ok := strings.Cut(s, " ") // a register
	return ok && len(name) <= 6 && strings.HasPrefix(strings.TrimLeft(value, " "), "0x") && len(s) < 40
}

// isSource recognises the file and line that Node begins an uncaught error with.
func isSource(s string) bool {
	if s[0] != '/' && !strings.HasPrefix(s, "node:") && !strings.HasPrefix(s, "file://") || strings.IndexByte(s, ' ') >= 0 {
		return false
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 || len(s)-i > 8 {
		return false
	}
	_, ok := digits(s[i+1:])
	return ok && (strings.HasPrefix(s, "node:") || strings.Contains(s, ".js:") || strings.Contains(s, ".mjs:") || strings.Contains(s, ".cjs:") || strings.Contains(s, ".ts:"))
}

// isRubyFrame recognises "/app/a.rb:2:in `foo': boom (RuntimeError)".
func isRubyFrame(s string) bool {
	i := strings.IndexByte(s, ' ') - len(":in")
	if i < 2 || s[i:i+3] != ":in" || i+4 >= len(s) || s[i+4] != '`' && s[i+4] != '\'' {
		return false
	}
	k := strings.LastIndexByte(s[:i], ':')
	_, ok := digits(s[k+1 : i])
	return k > 0 && k+1 < i && ok
}
