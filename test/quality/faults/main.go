// Command faults breaks the test cluster in known ways and records which
// policies found it, in docs/alert-quality.json.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/quality"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

func main() {
	only := flag.String("only", "", "faults and pairs, separated by commas; all when empty, those not measured yet with \"missing\"")
	list := flag.Bool("list", false, "print the names, and end")
	atOnce := flag.Bool("at-once", false, "all at the same time, and record nothing: a quick look at whether they work; not for those that touch more than their namespace")
	most := flag.Duration("most", 75*time.Minute, "begin none after this time")
	render := flag.Bool("render", false, "measure nothing; make the page of what was measured")
	flag.Parse()
	if *list {
		fmt.Println(strings.Join(quality.Names(), "\n"))
		return
	}
	if *render {
		root, err := testbed.Root()
		if err == nil {
			err = quality.Render(root)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *most, *atOnce); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, most time.Duration, atOnce bool) (err error) {
	began := time.Now()
	root, err := testbed.Root()
	if err != nil {
		return err
	}
	names := quality.Names()
	switch only {
	case "":
	case "missing":
		report, err := quality.Load(root)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(name string) bool {
			return slices.ContainsFunc(report.Rows, func(r quality.Row) bool { return r.Name == name })
		})
	default:
		asked := strings.Split(only, ",")
		for _, name := range asked {
			if !slices.Contains(names, name) {
				return fmt.Errorf("there is no fault %q; -list prints all", name)
			}
		}
		names = asked
	}
	cluster, err := testbed.Up(ctx, os.Stderr)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, cluster.Down(context.WithoutCancel(ctx), os.Stderr))
	}()
	dir, err := os.MkdirTemp("", "crowsnest-faults-")
	if err != nil {
		return err
	}
	failed := 0
	for _, setup := range []quality.Setup{quality.FromFiles(), quality.FromCadvisor()} {
		var of []string
		for _, name := range names {
			if quality.SetupOf(name) == setup {
				of = append(of, name)
			}
		}
		if len(of) == 0 {
			continue
		}
		n, err := measure(ctx, root, setup, cluster, filepath.Join(dir, setup.Interval.String()), of, began.Add(most), atOnce)
		if failed += n; err != nil {
			return fmt.Errorf("%w (logs are in %s)", err, dir)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d do not hold: %s (logs are in %s)", failed, len(names), filepath.Join(root, "docs/alert-quality.md"), dir)
	}
	return os.RemoveAll(dir)
}

// measure runs those of one setup, beginning none after a time, and says how many
// do not hold.
func measure(ctx context.Context, root string, setup quality.Setup, cluster *testbed.Cluster, dir string, names []string, until time.Time, atOnce bool) (failed int, err error) {
	lab, err := quality.Start(ctx, setup, cluster, dir, os.Stderr)
	if err != nil {
		return 0, err
	}
	defer lab.Stop()
	if err := lab.Settle(ctx); err != nil {
		return 0, err
	}
	if atOnce {
		lab.Beside = true
		var wg sync.WaitGroup
		for _, name := range names {
			wg.Go(func() {
				if _, err := lab.Run(ctx, name); err != nil {
					fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
				}
			})
		}
		wg.Wait()
		return 0, nil
	}
	for _, name := range names {
		if time.Now().After(until) {
			return failed, fmt.Errorf("the time is over before %s and what follows it", name)
		}
		row, err := lab.Run(ctx, name)
		if err != nil {
			return failed, fmt.Errorf("%s: %w", name, err)
		}
		if err := quality.Record(root, row); err != nil {
			return failed, err
		}
		if !row.Holds {
			failed++
		}
	}
	return failed, nil
}
