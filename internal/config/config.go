// Package config fills the flags of a program from the command line, the
// environment and a file, in one documented order of precedence, and refuses
// what it does not know. It owns that order and the type of secrets; it must not
// know what any setting means.
//
// A flag on the command line wins over the environment, which wins over the
// file, which wins over the flag's default. The name is the same everywhere:
// --token-file on the command line is PREFIX_TOKEN_FILE in the environment and
// token-file (or token_file) in the file.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/nearest"
)

// MaxFileBytes bounds a configuration file.
const MaxFileBytes = 1 << 20

// Origin says where a setting's value came from.
type Origin string

const (
	FromDefault Origin = "default"
	FromFile    Origin = "file"
	FromEnv     Origin = "environment"
	FromFlag    Origin = "flag"
)

// Options of Load.
type Options struct {
	// EnvPrefix begins the names of environment variables, without the last
	// underscore: "CROWSNEST". Required. Variables with the prefix that name no
	// flag are left alone, since Kubernetes itself sets such ones for Services.
	EnvPrefix string
	// File is the path of a YAML or JSON file of settings; empty means none.
	File string
	// Skip names flags that cannot be set by file or environment, "config"
	// itself and "help" always among them.
	Skip []string
	// Lookup reads the environment; default os.LookupEnv.
	Lookup func(string) (string, bool)
}

// Load sets every flag that the command line did not set from the environment,
// else from the file, and says for each flag where its value came from. Call it
// after the flags were parsed. Every wrong or unknown setting is named in one
// error of kind fault.ErrInvalid; a file that cannot be read is one of its own.
func Load(flags *pflag.FlagSet, o Options) (map[string]Origin, error) {
	if o.EnvPrefix == "" {
		return nil, errors.New("config: EnvPrefix is required")
	}
	if o.Lookup == nil {
		o.Lookup = os.LookupEnv
	}
	skip := append([]string{"config", "help", "version"}, o.Skip...)

	file, err := readFile(o.File)
	if err != nil {
		return nil, err
	}
	var (
		wrong   fault.Fields
		origins = map[string]Origin{}
		names   []string
	)
	flags.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(skip, f.Name) {
			return
		}
		names = append(names, f.Name)
		origins[f.Name] = FromDefault
		fromFile, inFile := file[f.Name]
		delete(file, f.Name)
		if f.Changed {
			origins[f.Name] = FromFlag
			return
		}
		if v, ok := o.Lookup(EnvName(o.EnvPrefix, f.Name)); ok {
			origins[f.Name] = FromEnv
			if err := flags.Set(f.Name, v); err != nil {
				wrong.Add(EnvName(o.EnvPrefix, f.Name), reason(f, err), shown(f, v))
			}
			return
		}
		if !inFile {
			return
		}
		origins[f.Name] = FromFile
		if err := setFromFile(flags, f, fromFile); err != nil {
			wrong.Add(f.Name, reason(f, err), shown(f, fromFile))
		}
	})
	// What is left in the file names no flag.
	for _, key := range sortedKeys(file) {
		why := "is not a setting"
		if near := Nearest(key, names); near != "" {
			why += fmt.Sprintf(", did you mean %q?", near)
		}
		wrong.Add(key, why, nil)
	}
	if err := wrong.Err(); err != nil {
		if o.File != "" {
			return origins, fmt.Errorf("configuration (file %s): %w", o.File, err)
		}
		return origins, fmt.Errorf("configuration: %w", err)
	}
	return origins, nil
}

// EnvName gives the environment variable of a flag: CROWSNEST and token-file
// make CROWSNEST_TOKEN_FILE.
func EnvName(prefix, flag string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readFile gives the settings of a file by flag name. No path gives none.
func readFile(path string) (map[string]any, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if len(raw) > MaxFileBytes {
		return nil, fmt.Errorf("read configuration %s: %w: more than %d bytes", path, fault.ErrTooLarge, MaxFileBytes)
	}
	return parse(raw, path)
}

// parse reads a file's text. Keys may be written with dashes or underscores.
func parse(raw []byte, path string) (map[string]any, error) {
	var given map[string]any
	if err := yaml.UnmarshalStrict(raw, &given); err != nil {
		return nil, fmt.Errorf("read configuration %s: %w: %v", path, fault.ErrMalformed, err)
	}
	out := make(map[string]any, len(given))
	for k, v := range given {
		name := strings.ReplaceAll(k, "_", "-")
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("read configuration %s: %w", path, fault.Field{Path: k, Reason: "is given twice"})
		}
		out[name] = v
	}
	return out, nil
}

func setFromFile(flags *pflag.FlagSet, f *pflag.Flag, v any) error {
	if list, ok := v.([]any); ok {
		sv, ok := f.Value.(pflag.SliceValue)
		if !ok {
			return errors.New("must be a single value, not a list")
		}
		items := make([]string, len(list))
		for i, item := range list {
			s, err := scalar(item)
			if err != nil {
				return err
			}
			items[i] = s
		}
		if err := sv.Replace(items); err != nil {
			return err
		}
		f.Changed = true
		return nil
	}
	s, err := scalar(v)
	if err != nil {
		return err
	}
	return flags.Set(f.Name, s)
}

func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64: // sigs.k8s.io/yaml goes by JSON, whose numbers are floats
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case nil:
		return "", errors.New("must have a value")
	default:
		return "", errors.New("must be a single value")
	}
}

// reason says in words for people what a flag takes.
func reason(f *pflag.Flag, err error) string {
	msg := err.Error()
	// pflag begins its message with the flag and what was given, which the
	// field's path and value say already.
	if i := strings.LastIndex(msg, "flag: "); i >= 0 {
		msg = msg[i+len("flag: "):]
	}
	return fmt.Sprintf("must be a %s: %s", f.Value.Type(), msg)
}

func shown(f *pflag.Flag, v any) any {
	if _, ok := f.Value.(*Secret); ok {
		return hidden
	}
	return v
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Nearest gives the name that is most like the given one; empty when nothing is
// near enough to be meant.
func Nearest(given string, names []string) string {
	return nearest.Word(given, names, len(given)/3)
}
