package metrics

import (
	"testing"

	"github.com/crowsnest-dev/crowsnest/storage/storetest"
)

func TestItIsAStore(t *testing.T) {
	storetest.Run(t, storetest.Store{Storage: open(t, Options{}), Engine: storetest.PromQL()}, "suite")
}
