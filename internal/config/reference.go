package config

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Reference gives a reference page's table of flags, in Markdown; empty when
// there are none.
func Reference(flags *pflag.FlagSet) string {
	var rows []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == "version" {
			return
		}
		value := f.DefValue
		if value == "" || value == "[]" {
			value = "–"
		} else {
			value = "`" + value + "`"
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name += ", `-" + f.Shorthand + "`"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |", name, f.Value.Type(), value, strings.ReplaceAll(f.Usage, "|", "\\|")))
	})
	if len(rows) == 0 {
		return ""
	}
	return "| setting | type | default | |\n|---|---|---|---|\n" + strings.Join(rows, "\n") + "\n"
}
