package nearest

import "testing"

func TestWord(t *testing.T) {
	known := []string{"listen", "log-level", "data", "date"}
	for _, tc := range []struct {
		given string
		most  int
		want  string
	}{
		{"listen", 0, "listen"},
		{"LISTEN", 0, "listen"},
		{"lisen", 1, "listen"},
		{"lsiten", 1, ""}, // two letters changed places: two changes
		{"lsiten", 2, "listen"},
		{"loglevel", 2, "log-level"},
		{"dat", 1, "data"}, // date is as near, and comes later
		{"", 2, ""},
		{"nothing like it", 5, ""},
	} {
		if got := Word(tc.given, known, tc.most); got != tc.want {
			t.Errorf("%q within %d: got %q, want %q", tc.given, tc.most, got, tc.want)
		}
	}
	if got := Word("x", nil, 9); got != "" {
		t.Errorf("of none: %q", got)
	}
}
