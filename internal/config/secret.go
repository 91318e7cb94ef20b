package config

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
)

const hidden = "<secret>"

// Secret is a value that no log, error or dump shows: however it is printed, it
// reads "<secret>". Reveal gives the value itself. It is a pflag.Value.
type Secret struct{ value string }

// NewSecret keeps a value from being shown.
func NewSecret(value string) Secret { return Secret{value} }

// SecretFromFile reads a secret from a file, without the white space around it.
func SecretFromFile(path string) (Secret, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	s := strings.TrimSpace(string(raw))
	if s == "" {
		return Secret{}, fmt.Errorf("read secret: %s is empty", path)
	}
	return Secret{s}, nil
}

// Reveal gives the value itself.
func (s Secret) Reveal() string { return s.value }

// Empty says whether there is no secret.
func (s Secret) Empty() bool { return s.value == "" }

func (s Secret) String() string {
	if s.value == "" {
		return ""
	}
	return hidden
}

func (s Secret) GoString() string              { return hidden }
func (s Secret) Format(f fmt.State, _ rune)    { _, _ = f.Write([]byte(s.String())) }
func (s Secret) LogValue() slog.Value          { return slog.StringValue(s.String()) }
func (s Secret) MarshalText() ([]byte, error)  { return []byte(s.String()), nil }
func (s *Secret) UnmarshalText(b []byte) error { s.value = string(b); return nil }
func (s *Secret) Set(v string) error           { s.value = v; return nil }
func (s *Secret) Type() string                 { return "secret" }
