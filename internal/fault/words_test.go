package fault

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"
)

// Each code that is declared has its sentence, and the other way round.
func TestEveryCodeHasASentence(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "words.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := map[Code]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if declared[Code(text)] {
				t.Errorf("code %q is declared twice", text)
			}
			declared[Code(text)] = true
		}
		return true
	})
	if len(declared) < 100 {
		t.Fatalf("found %d codes in words.go", len(declared))
	}
	for c := range declared {
		if c.Sentence() == "" {
			t.Errorf("code %q has no sentence", c)
		}
	}
	for _, c := range Codes() {
		if !declared[c] {
			t.Errorf("the sentence %q has no constant", c)
		}
	}
}

var names = regexp.MustCompile(`\{([a-z]+)\}`)

// A name twice in a sentence would need its argument twice.
func TestEachNameStandsOnceInASentence(t *testing.T) {
	for _, c := range Codes() {
		seen := map[string]bool{}
		for _, m := range names.FindAllStringSubmatch(c.Sentence(), -1) {
			if seen[m[1]] {
				t.Errorf("%s: %q has {%s} twice", c, c.Sentence(), m[1])
			}
			seen[m[1]] = true
		}
	}
}

func TestSayFillsTheNamesInTheirOrder(t *testing.T) {
	r := Say(Between, 1, "{max}")
	if r.Text != "must be from 1 to {max}" || r.Params["min"] != "1" || r.Params["max"] != "{max}" {
		t.Errorf("got %+v", r)
	}
	err := fmt.Errorf("save: %w", Because(ErrConflict, Exists, "board", "shop"))
	var refused *Refused
	if !errors.Is(err, ErrConflict) || !errors.As(err, &refused) || refused.Reason.Code != Exists || err.Error() != `save: board "shop" is there already` {
		t.Errorf("got %v", err)
	}
}
