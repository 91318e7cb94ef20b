package bucket

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestOpen(t *testing.T) {
	for name, tc := range map[string]struct {
		raw  string
		fine bool
	}{
		"a folder":              {"type: FILESYSTEM\nconfig: {directory: " + t.TempDir() + "}", true},
		"a prefix in a folder":  {"type: FILESYSTEM\nprefix: blocks\nconfig: {directory: " + t.TempDir() + "}", true},
		"S3":                    {"type: S3\nconfig: {bucket: b, endpoint: s3.example.com, access_key: a, secret_key: s}", true},
		"S3 without an address": {"type: S3\nconfig: {bucket: b}", false},
		"another kind":          {"type: TAPE", false},
		"no YAML":               {"{", false},
		"unknown key":           {"type: FILESYSTEM\ndirectory: /tmp", false},
		"nothing":               {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := Open([]byte(tc.raw))
			if (err == nil) != tc.fine || (err != nil && !errors.Is(err, fault.ErrInvalid)) {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				_ = b.Close()
			}
		})
	}
}

func TestWhatIsPutIsThere(t *testing.T) {
	b, err := Open([]byte("type: FILESYSTEM\nprefix: x\nconfig: {directory: " + t.TempDir() + "}"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if err := b.Upload(t.Context(), "a/b", strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	r, err := b.Get(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if text, err := io.ReadAll(r); err != nil || string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
}
