// Package exchange owns what comes from other products and goes to them:
// policies and notification objects of TKEStack, Alertmanager's configuration,
// Prometheus' rules. It must not know a server: it turns documents into
// documents, and names whatever could not be carried over.
package exchange

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
)

// Result is what came of an import or an export.
type Result struct {
	Documents []Document
	// Notes name what could not be carried over, or means another thing here.
	Notes []Note
}

// Document is an object of ours as a user would write it. Secrets are in it in
// the clear.
type Document map[string]any

// Note is about one part of the input.
type Note struct {
	Where string // in the input, as route "db" or policy "cpu"
	What  string // what is lost or changed, and what to do
}

func (n Note) String() string { return n.Where + ": " + n.What }

func (r *Result) note(where, format string, args ...any) {
	n := Note{where, fmt.Sprintf(format, args...)}
	for _, there := range r.Notes {
		if there == n {
			return
		}
	}
	r.Notes = append(r.Notes, n)
}

func (r *Result) add(kind, name string, labels map[string]string, spec any) {
	meta := map[string]any{"name": name}
	if len(labels) > 0 {
		meta["labels"] = labels
	}
	r.Documents = append(r.Documents, Document{"apiVersion": policy.APIVersion, "kind": kind, "metadata": meta, "spec": spec})
}

// YAML writes the documents one after the other.
func (r Result) YAML() ([]byte, error) {
	var out bytes.Buffer
	for i, d := range r.Documents {
		raw, err := yaml.Marshal(d)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(raw)
	}
	return out.Bytes(), nil
}

// names gives each thing a name of ours once.
type names map[string]bool

// slug makes a name of a text: [a-z0-9-], at most 63 characters, not taken yet.
func (n names) slug(text, otherwise string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(text) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	out := strings.Trim(b.String()[:min(b.Len(), 56)], "-")
	if out == "" {
		out = otherwise
	}
	base := out
	for i := 2; n[out]; i++ {
		out = fmt.Sprintf("%s-%d", base, i)
	}
	n[out] = true
	return out
}

// documents splits an input into its YAML or JSON documents.
func documents(raw []byte) ([]json.RawMessage, error) {
	var out []json.RawMessage
	for i, part := range strings.Split("\n"+string(raw), "\n---") {
		doc, err := yaml.YAMLToJSON([]byte(part))
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		if string(doc) != "null" {
			out = append(out, doc)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("holds no document")
	}
	return out, nil
}
