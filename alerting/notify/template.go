package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
)

// Bounds of a body template. Its author is not trusted with the server's time
// or memory.
const (
	maxBodyTemplate = 16 << 10
	maxTemplateText = 16 << 10 // of one function's result
	maxTemplateRuns = 20_000   // of the bodies of range, define and block together
)

var (
	errTooManyRuns = fmt.Errorf("it loops or recurses more than %d times", maxTemplateRuns)
	errTooLong     = errors.New("it renders to more than maxBytes")
)

// rawJSON is written as it is.
type rawJSON string

// body is a checked template. Each execution gets a copy with a budget.
type body struct {
	t    *template.Template
	json bool
}

// parseBody reads a template and tries it on a sample. Go's templates cannot be
// stopped from outside, so every body that can run more than once begins with a
// call that counts.
func parseBody(b *BodyTemplate) (*body, error) {
	if len(b.Body) > maxBodyTemplate {
		return nil, fmt.Errorf("must be at most %d bytes", maxBodyTemplate)
	}
	out := &body{json: strings.HasPrefix(b.ContentType, contentJSON)}
	t, err := template.New("body").Option("missingkey=zero").Funcs(out.funcs(new(int))).Parse(b.Body)
	if err != nil {
		return nil, fmt.Errorf("must be a template: %s", templateFault(err))
	}
	for _, own := range t.Templates() {
		if own.Tree == nil || own.Root == nil {
			continue
		}
		guardNodes(own.Tree, own.Root)
		own.Root.Nodes = append([]parse.Node{call(own.Tree, "_run")}, own.Root.Nodes...)
	}
	out.t = t
	return out, nil
}

// guardNodes puts the counting call into loops, and sends everything that is
// written through the escaper.
func guardNodes(tree *parse.Tree, list *parse.ListNode) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				n.Pipe.Cmds = append(n.Pipe.Cmds, call(tree, "_write").Pipe.Cmds...)
			}
		case *parse.IfNode:
			guardNodes(tree, n.List)
			guardNodes(tree, n.ElseList)
		case *parse.WithNode:
			guardNodes(tree, n.List)
			guardNodes(tree, n.ElseList)
		case *parse.RangeNode:
			guardNodes(tree, n.List)
			guardNodes(tree, n.ElseList)
			n.List.Nodes = append([]parse.Node{call(tree, "_run")}, n.List.Nodes...)
		}
	}
}

// call makes the node of {{ name }}.
func call(tree *parse.Tree, name string) *parse.ActionNode {
	id := parse.NewIdentifier(name).SetTree(tree)
	return &parse.ActionNode{NodeType: parse.NodeAction, Pipe: &parse.PipeNode{
		NodeType: parse.NodePipe, Cmds: []*parse.CommandNode{{NodeType: parse.NodeCommand, Args: []parse.Node{id}}},
	}}
}

func (b *body) funcs(runs *int) template.FuncMap {
	funcs := policy.TextFuncs(maxTemplateText, fmt.Errorf("a function's result is over %d bytes", maxTemplateText))
	maps.Copy(funcs, template.FuncMap{
		"_run": func() (string, error) {
			if *runs++; *runs > maxTemplateRuns {
				return "", errTooManyRuns
			}
			return "", nil
		},
		"_write": b.write,
		"json": func(v any) (rawJSON, error) {
			var out bytes.Buffer
			enc := json.NewEncoder(&out)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return rawJSON(strings.TrimSuffix(out.String(), "\n")), err
		},
		"call": func(...any) (string, error) { return "", errors.New("call is not allowed") },
	})
	return funcs
}

// write gives what an action writes. In JSON a text is escaped for use between
// quotes, so that no value of a label can break the body or add to it.
func (b *body) write(v any) (string, error) {
	switch v := v.(type) {
	case rawJSON:
		return string(v), nil
	case nil:
		return "", nil
	case string:
		if !b.json {
			return v, nil
		}
		var out bytes.Buffer
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return "", err
		}
		return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(out.String(), "\n"), `"`), `"`), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case bool, int:
		return fmt.Sprint(v), nil
	}
	return "", errors.New("a list or an object cannot be written as it is; use {{ json … }}")
}

// limited is a buffer with a bound.
type limited struct {
	bytes.Buffer
	most int
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > l.most {
		return 0, errTooLong
	}
	return l.Buffer.Write(p)
}

// execute renders a message, given as the JSON that it is. The error says what
// is wrong in the template.
func (b *body) execute(message []byte, maxBytes int) ([]byte, error) {
	var data map[string]any
	if err := json.Unmarshal(message, &data); err != nil {
		return nil, fmt.Errorf("read the message: %w", err)
	}
	t, err := b.t.Clone()
	if err != nil {
		return nil, err
	}
	out := &limited{most: maxBytes}
	if err := t.Funcs(b.funcs(new(int))).Execute(out, data); err != nil {
		return nil, errors.New(templateFault(err))
	}
	if b.json && !json.Valid(out.Bytes()) {
		return nil, errors.New("what it renders is no JSON")
	}
	return out.Bytes(), nil
}

// templateFault shortens what text/template says to what its author can use.
func templateFault(err error) string {
	var exec template.ExecError
	switch {
	case errors.Is(err, errTooManyRuns):
		return errTooManyRuns.Error()
	case errors.Is(err, errTooLong):
		return errTooLong.Error()
	case errors.As(err, &exec):
		err = exec.Err
	}
	text := strings.TrimPrefix(err.Error(), "template: ")
	return strings.ReplaceAll(printable([]byte(text), 300), " in pipeline", "")
}
