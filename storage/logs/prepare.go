package logs

import (
	"errors"
	"flag"
	"fmt"
	"sync"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/cgroup"
	"golang.org/x/sys/unix"
)

// The library is configured by flags of the process and reads them at first
// use, once. This is the only state of the package that is not in a Store.
var (
	prepareMu   sync.Mutex
	preparedFor int64 // bytes; 0 before Prepare
)

// Prepare sets up the embedded library for this process: how much memory its
// caches may take (bytes; at least 32 MiB and less than the machine or its
// cgroup has) and that it writes only errors to stderr. It must be called before
// the first Open. A second call must say the same. It parses flag.CommandLine
// (with no arguments) unless that was done, since the library insists on it.
func Prepare(cacheBytes int64) error {
	prepareMu.Lock()
	defer prepareMu.Unlock()
	if preparedFor != 0 {
		if preparedFor != cacheBytes {
			return fmt.Errorf("prepare log library: caches were bounded to %d bytes already, they cannot be changed to %d", preparedFor, cacheBytes)
		}
		return nil
	}
	total := memoryLimit()
	if cacheBytes < 32<<20 || uint64(cacheBytes) >= total {
		return fmt.Errorf("prepare log library: cache size must be between %d bytes and the %d bytes of memory that there are, got %d", 32<<20, total, cacheBytes)
	}
	// Its informational lines would be two per commit; its warnings quote log
	// lines of users. What matters of them is counted here.
	err := errors.Join(
		flag.Set("memory.allowedBytes", fmt.Sprint(cacheBytes)),
		flag.Set("loggerLevel", "ERROR"),
	)
	if err == nil && !flag.Parsed() {
		err = flag.CommandLine.Parse(nil)
	}
	if err == nil {
		err = compressLiterals()
	}
	if err != nil {
		return fmt.Errorf("prepare log library: %w", err)
	}
	preparedFor = cacheBytes
	return nil
}

func prepared() bool {
	prepareMu.Lock()
	defer prepareMu.Unlock()
	return preparedFor != 0
}

// memoryLimit is what the library takes for the memory of the machine.
func memoryLimit() uint64 {
	var si unix.Sysinfo_t
	total := uint64(1) << 62
	if err := unix.Sysinfo(&si); err == nil {
		total = uint64(si.Totalram) * uint64(si.Unit)
	}
	if n := cgroup.GetMemoryLimit(); n > 0 {
		total = min(total, uint64(n))
	}
	return total
}
