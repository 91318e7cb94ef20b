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
	lab, err := quality.Start(ctx, cluster, dir, os.Stderr)
	if err != nil {
		return fmt.Errorf("%w (logs are in %s)", err, dir)
	}
	defer lab.Stop()
	if err := lab.Settle(ctx); err != nil {
		return err
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
		return nil
	}
	failed := 0
	for _, name := range names {
		if time.Since(began) > most {
			return fmt.Errorf("the time is over before %s and what follows it", name)
		}
		row, err := lab.Run(ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %w (logs are in %s)", name, err, dir)
		}
		if err := quality.Record(root, row); err != nil {
			return err
		}
		if !row.Holds {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d do not hold: %s (logs are in %s)", failed, len(names), filepath.Join(root, "docs/alert-quality.md"), dir)
	}
	return os.RemoveAll(dir)
}
