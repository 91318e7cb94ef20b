package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/nearest"
)

// MaxBytes bounds a document.
const MaxBytes = 256 << 10

// maxDepth bounds nesting; a policy needs six levels.
const maxDepth = 32

// Decode reads one JSON or YAML document into out, a pointer to a struct with
// json tags. Fields tagged write:"ignored" stay as they are. A document that cannot be read is fault.ErrMalformed, one over
// MaxBytes fault.ErrTooLarge. Everything else that is wrong, unknown keys
// included, comes back as fields; what could be read is in out all the same, so
// that a caller's own checks can be added and all be told at once.
//
// The standard decoder is not used because it stops at the first wrong value,
// does not say where it is, and takes keys twice.
func Decode(document []byte, out any) (fault.Fields, error) {
	if len(document) > MaxBytes {
		return nil, fmt.Errorf("document of %d bytes: %w: at most %d are allowed", len(document), fault.ErrTooLarge, MaxBytes)
	}
	tree, err := parseTree(document)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrMalformed, err)
	}
	if _, ok := tree.(map[string]any); !ok { // what else it lacks says nothing
		return nil, fault.Wrong("", fault.Say(fault.NotObjectBut, kindOf(tree)), nil)
	}
	d := decoder{}
	d.value("", tree, reflect.ValueOf(out).Elem())
	return d.fields, nil
}

func parseTree(document []byte) (any, error) {
	trimmed := bytes.TrimSpace(document)
	if len(trimmed) == 0 {
		return nil, errors.New("the document is empty")
	}
	if trimmed[0] != '{' {
		asJSON, err := yaml.YAMLToJSONStrict(trimmed)
		if err != nil {
			return nil, err
		}
		trimmed = asJSON
	}
	dec := json.NewDecoder(bytes.NewReader(trimmed))
	dec.UseNumber()
	tree, err := readValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one document")
	}
	return tree, nil
}

// readValue reads one JSON value as encoding/json would into an any, but
// refuses keys that are there twice.
func readValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	if delim == '[' {
		list := []any{}
		for dec.More() {
			v, err := readValue(dec, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := dec.Token()
		return list, err
	}
	m := map[string]any{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		k, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("key %v is not a string", key)
		}
		if _, twice := m[k]; twice {
			return nil, fmt.Errorf("key %q is there twice", k)
		}
		if m[k], err = readValue(dec, depth+1); err != nil {
			return nil, err
		}
	}
	_, err = dec.Token()
	return m, err
}

type decoder struct{ fields fault.Fields }

func (d *decoder) value(path string, in any, out reflect.Value) {
	if in == nil { // null is "left out"
		return
	}
	if out.CanAddr() {
		switch custom := out.Addr().Interface().(type) {
		case interface{ decodeAny(any) bool }:
			if !custom.decodeAny(in) {
				d.fields.Say(path, fault.Say(fault.NotDuration), in)
			}
			return
		case interface{ decodeShort(any) bool }:
			if custom.decodeShort(in) {
				return
			}
		case json.Unmarshaler: // times
			b, err := json.Marshal(in)
			if err == nil {
				err = custom.UnmarshalJSON(b)
			}
			if err != nil {
				d.fields.Say(path, fault.Say(fault.NotTime), in)
			}
			return
		}
	}
	switch out.Kind() {
	case reflect.Pointer:
		out.Set(reflect.New(out.Type().Elem()))
		d.value(path, in, out.Elem())
	case reflect.Struct:
		d.object(path, in, out)
	case reflect.Slice:
		list, ok := in.([]any)
		if !ok {
			d.fields.Say(path, fault.Say(fault.NotList), in)
			return
		}
		out.Set(reflect.MakeSlice(out.Type(), len(list), len(list)))
		for i, v := range list {
			at := fmt.Sprintf("%s[%d]", path, i)
			if v == nil {
				d.fields.Say(at, fault.Say(fault.NotNull), nil)
			}
			d.value(at, v, out.Index(i))
		}
	case reflect.Map:
		m, ok := in.(map[string]any)
		if !ok {
			d.fields.Say(path, fault.Say(fault.NotMap), in)
			return
		}
		out.Set(reflect.MakeMapWithSize(out.Type(), len(m)))
		for _, k := range sortedKeys(m) {
			v := reflect.New(out.Type().Elem()).Elem()
			d.value(join(path, k), m[k], v)
			out.SetMapIndex(reflect.ValueOf(k), v)
		}
	case reflect.String:
		s, ok := in.(string)
		if !ok {
			d.fields.Say(path, fault.Say(fault.NotText), in)
			return
		}
		out.SetString(s)
	case reflect.Bool:
		b, ok := in.(bool)
		if !ok {
			d.fields.Say(path, fault.Say(fault.NotBool), in)
			return
		}
		out.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, ok := in.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil || out.OverflowInt(i) {
			d.fields.Say(path, fault.Say(fault.NotWhole), in)
			return
		}
		out.SetInt(i)
	case reflect.Float64:
		n, ok := in.(json.Number)
		f, err := n.Float64()
		if !ok || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			d.fields.Say(path, fault.Say(fault.NotNumber), in)
			return
		}
		out.SetFloat(f)
	default:
		panic("BUG: cannot decode into " + out.Type().String())
	}
}

func (d *decoder) object(path string, in any, out reflect.Value) {
	m, ok := in.(map[string]any)
	if !ok {
		d.fields.Say(path, fault.Say(fault.NotObjectBut, kindOf(in)), in)
		return
	}
	known := map[string]int{}
	for i := range out.NumField() {
		if name, _, _ := strings.Cut(out.Type().Field(i).Tag.Get("json"), ","); name != "" && name != "-" {
			known[name] = i
		}
	}
	for _, k := range sortedKeys(m) {
		i, ok := known[k]
		if !ok {
			d.fields.Say(join(path, k), unknownKey(k, sortedKeys(known)), m[k])
			continue
		}
		if out.Type().Field(i).Tag.Get("write") == "ignored" {
			continue
		}
		d.value(join(path, k), m[k], out.Field(i))
	}
}

// kindOf names what JSON has in a place.
func kindOf(in any) string {
	switch in.(type) {
	case nil:
		return "null"
	case []any:
		return "a list"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	}
	return "an object"
}

func unknownKey(key string, known []string) fault.Reason {
	if len(known) == 0 {
		return fault.Say(fault.KeyNone)
	}
	if near := meant(key, known); near != "" {
		return fault.Say(fault.KeyNear, near)
	}
	return fault.Say(fault.KeyOf, strings.Join(known, ", "))
}

// meant gives the known word that was meant; empty when none is near.
func meant(word string, known []string) string { return nearest.Word(word, known, 1+len(word)/5) }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
