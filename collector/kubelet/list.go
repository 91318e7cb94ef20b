package kubelet

import (
	"bytes"
	"encoding/json"
	"errors"
)

const (
	// maxEntries bounds pods, containers and volumes that are kept of one answer
	// that is read as a whole: a node of 250 pods has some 1,500.
	maxEntries = 10_000
	// maxParts bounds the containers, volumes or interfaces of one pod.
	maxParts = 2_000
)

// each hands on the elements of a JSON array one by one. As a slice an array of
// empty ones, three bytes each, would take sixty times the answer's size.
type each[T any] struct{ take func(*T) }

// UnmarshalJSON implements json.Unmarshaler.
func (e *each[T]) UnmarshalJSON(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	switch t, err := d.Token(); {
	case err != nil:
		return err
	case t == nil: // null
		return nil
	case t != json.Delim('['):
		return errors.New("it has something else where a list should be")
	}
	for d.More() {
		var v T
		if err := d.Decode(&v); err != nil {
			return err
		}
		e.take(&v)
	}
	return nil
}

// few keeps the first elements of a JSON array, and counts the others.
type few[T any] struct {
	all  []T
	over int
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *few[T]) UnmarshalJSON(raw []byte) error {
	*f = few[T]{}
	list := each[T]{func(v *T) {
		if len(f.all) == maxParts {
			f.over++
			return
		}
		f.all = append(f.all, *v)
	}}
	return list.UnmarshalJSON(raw)
}
