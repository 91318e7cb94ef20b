package fault

import (
	"errors"
	"fmt"
	"testing"
)

func TestFieldsIsInvalidAndNamesEveryField(t *testing.T) {
	var fs Fields
	if fs.Err() != nil {
		t.Fatal("no field added, want no error")
	}
	fs.Add("spec.a", "must be positive", -1)
	fs.Add("spec.b", "is required", nil)
	err := fmt.Errorf("policy %q: %w", "x", fs.Err())
	if !errors.Is(err, ErrInvalid) {
		t.Errorf("errors.Is(%v, ErrInvalid) = false", err)
	}
	var got Fields
	if !errors.As(err, &got) || len(got) != 2 {
		t.Fatalf("errors.As gave %v, want both fields", got)
	}
	if want := `policy "x": spec.a: must be positive (got -1); spec.b: is required`; err.Error() != want {
		t.Errorf("got %q, want %q", err.Error(), want)
	}
}
