package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

// Bounds of an annotation.
const (
	maxTemplate = 4 << 10
	maxRendered = 2 << 10
)

// TemplateData is what an annotation's template can show.
type TemplateData struct {
	Policy     string
	Severity   string
	Object     TemplateObject
	Dimensions map[string]string // as mountpoint
	Labels     map[string]string // of the policy
	Value      Quantity          // of the first condition
	Threshold  Quantity          // of the first condition, at the severity
}

// TemplateObject names the object; what it does not have is empty.
type TemplateObject struct {
	Level, Cluster, Namespace, Node, WorkloadType, Workload, Pod, Container, Service, Volume, Component string
}

// Quantity is a number with its unit; as text it is "98.7 %".
type Quantity struct {
	Number float64
	Unit   string
}

func (q Quantity) String() string { return FormatValue(q.Number, q.Unit) }

// FormatValue writes a value for people: four significant digits, bytes in
// binary multiples, and the unit.
func FormatValue(v float64, unit string) string {
	number := func(v float64) string {
		s := strconv.FormatFloat(v, 'g', 4, 64)
		if strings.Contains(s, "e") {
			s = strconv.FormatFloat(v, 'f', 0, 64)
		}
		return s
	}
	switch unit {
	case "B", "B/s":
		for _, p := range []string{"", "Ki", "Mi", "Gi", "Ti"} {
			if (v < 1024 && v > -1024) || p == "Ti" {
				return number(v) + " " + p + unit
			}
			v /= 1024
		}
	case "count", "0/1", "":
		return number(v)
	}
	return number(v) + " " + unit
}

// Template is a checked annotation.
type Template struct{ t *template.Template }

var errTemplateTooLong = errors.New("it renders to more than 2 KiB")

// wide finds what would make printf's result long: a width or precision of
// three digits, or one taken from an argument.
var wide = regexp.MustCompile(`%[^a-zA-Z%]*(\*|[0-9]{3})`)

// TextFuncs replace all built-in template functions that make text: each result
// has at most limit bytes, or a few lines could double a text until the memory is
// gone. tooLong is the error of one that has more.
func TextFuncs(limit int, tooLong error) template.FuncMap {
	bounded := func(s string) (string, error) {
		if len(s) > limit {
			return "", tooLong
		}
		return s, nil
	}
	return template.FuncMap{
		"printf": func(format string, args ...any) (string, error) {
			if wide.MatchString(format) {
				return "", errors.New("printf: a width of three digits or * is not allowed")
			}
			return bounded(fmt.Sprintf(format, args...))
		},
		"print":    func(args ...any) (string, error) { return bounded(fmt.Sprint(args...)) },
		"println":  func(args ...any) (string, error) { return bounded(fmt.Sprintln(args...)) },
		"html":     func(args ...any) (string, error) { return bounded(template.HTMLEscaper(args...)) },
		"js":       func(args ...any) (string, error) { return bounded(template.JSEscaper(args...)) },
		"urlquery": func(args ...any) (string, error) { return bounded(template.URLQueryEscaper(args...)) },
		"upper":    func(s string) (string, error) { return bounded(strings.ToUpper(s)) },
		"lower":    func(s string) (string, error) { return bounded(strings.ToLower(s)) },
	}
}

// ParseTemplate reads an annotation: Go's text/template without what could run
// for long (range, templates of its own), tried on sample data. The error is
// for people.
func ParseTemplate(text string) (*Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("must be at most %d bytes", maxTemplate)
	}
	t, err := template.New("annotation").Option("missingkey=zero").Funcs(TextFuncs(maxRendered, errTemplateTooLong)).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("must be a template: %s", cleanTemplateError(err))
	}
	for _, own := range t.Templates() {
		if own.Name() != "annotation" {
			return nil, errors.New("define and block are not allowed")
		}
	}
	if t.Tree != nil {
		if err := checkNode(t.Root); err != nil {
			return nil, err
		}
	}
	out := &Template{t: t}
	sample := TemplateData{Policy: "p", Severity: "critical", Value: Quantity{1, "%"}, Threshold: Quantity{1, "%"}}
	if _, err := out.Render(sample); err != nil {
		return nil, err
	}
	return out, nil
}

func checkNode(n parse.Node) error {
	switch n := n.(type) {
	case *parse.ListNode:
		if n == nil {
			return nil
		}
		for _, c := range n.Nodes {
			if err := checkNode(c); err != nil {
				return err
			}
		}
	case *parse.IfNode:
		return errors.Join(checkNode(n.List), checkNode(n.ElseList))
	case *parse.WithNode:
		return errors.Join(checkNode(n.List), checkNode(n.ElseList))
	case *parse.RangeNode:
		return errors.New("range is not allowed")
	case *parse.TemplateNode:
		return errors.New("template is not allowed")
	}
	return nil
}

// Render gives the annotation's text.
func (t *Template) Render(d TemplateData) (string, error) {
	if t.t.Tree == nil {
		return "", nil // an empty text
	}
	w := &boundedWriter{left: maxRendered}
	if err := t.t.Execute(w, d); err != nil {
		if errors.Is(err, errTemplateTooLong) {
			return "", errTemplateTooLong
		}
		return "", fmt.Errorf("must be a template of the alert's fields: %s", cleanTemplateError(err))
	}
	return w.String(), nil
}

// cleanTemplateError leaves out the template's name and place, which mean
// nothing to whoever wrote one line.
func cleanTemplateError(err error) string {
	return strings.TrimPrefix(err.Error(), "template: ")
}

type boundedWriter struct {
	strings.Builder
	left int
}

func (w *boundedWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errTemplateTooLong
	}
	return w.Builder.Write(p)
}
