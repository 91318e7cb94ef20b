package notify

import (
	_ "embed"
	"encoding/json"
	"slices"
)

//go:embed notification.v1.schema.json
var schema []byte

// Schema is the JSON Schema of a crowsnest/v1 body.
func Schema() json.RawMessage { return slices.Clone(schema) }
