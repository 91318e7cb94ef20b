package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// schemaNamer names schemas by their type, and where two packages have types of
// one name, the later one by its package too. The names are part of what clients
// generate from, so the parts are registered in a fixed order, new ones last.
func schemaNamer() func(reflect.Type, string) string {
	taken := map[string]reflect.Type{}
	return func(t reflect.Type, hint string) string {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		name := huma.DefaultSchemaNamer(t, hint)
		if other, ok := taken[name]; ok && other != t && t.Name() != "" {
			pkg := []byte(path.Base(t.PkgPath()))
			pkg[0] -= 'a' - 'A' // package names begin with a lower-case letter
			name = string(pkg) + name
		}
		taken[name] = t
		return name
	}
}

// describe makes the OpenAPI document once: it does not change while the server
// runs.
func (s *Server) describe() ([]byte, error) {
	raw, err := json.Marshal(s.huma.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
