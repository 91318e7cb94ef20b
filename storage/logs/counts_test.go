package logs

import "testing"

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
