package logs

import (
	"errors"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// The library leaves options out of a filter, and what they filter would be counted.
func TestAFilterHasNoOptions(t *testing.T) {
	for _, text := range []string{"options(global_filter=(level:error)) *", "options(time_offset=1h) error"} {
		if err := CheckFilter(text); !errors.Is(err, fault.ErrInvalid) {
			t.Errorf("%s as what is counted: %v", text, err)
		}
	}
	s := open(t, t.TempDir())
	for _, text := range []string{"options", `"options" (a)`, "_msg:options"} {
		if err := CheckFilter(text); (err == nil) != (text != "options") {
			t.Errorf("%s as what is counted: %v", text, err)
		}
	}
	err := s.Query(t.Context(), Query{Text: "*", Filters: []string{"options(global_filter=(level:error)) *"}}, func(Row) error { return nil })
	if !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("a further filter: %v", err)
	}
}

func FuzzCountFilter(f *testing.F) {
	for _, text := range []string{"error", `a:="b" c:>5`, "x | y", "(", "a) or (b", "# c", `in(* | fields x)`, "_time:5m", `{a="b"} !c`, "*"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		out, err := countFilter(text)
		if err != nil {
			return
		}
		if again, err := countFilter(out); err != nil || again != out {
			t.Errorf("%q became %q, which became %q, %v", text, out, again, err)
		}
	})
}
