package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/api/backups"
	"github.com/crowsnest-dev/crowsnest/storage/backup"
	"github.com/crowsnest-dev/crowsnest/storage/bucket"
)

func newBackup(_ *common) *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "backup", Short: "Have the server make a backup", Args: args(cobra.NoArgs),
		Long: "Have the server make a backup into the folder that it was given by --backup-dir, or the bucket of --backup-bucket, and wait for it. Metrics, log lines, policies, alerts, tokens and the inventory are in it, as they were acknowledged before; secrets.key is not, so that a copy does not give the secrets of targets away. " +
			"Only what is new there is copied, and what is written is read once more. An interrupted backup is gone on with by the next.\n\n" + precedence,
		Example: "  crowsnest backup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			var st backups.State
			if err := r.json(cmd.Context(), http.MethodPost, "/backups", nil, &st); err != nil {
				return err
			}
			said := ""
			tick := time.NewTicker(time.Second / 2)
			defer tick.Stop()
			for st.Running {
				if now := fmt.Sprintf("%s: %.0f of %.0f MiB", st.Step, mib(st.DoneBytes), mib(st.TotalBytes)); now != said {
					said = now
					fmt.Fprintln(cmd.ErrOrStderr(), now)
				}
				select {
				case <-cmd.Context().Done():
					fmt.Fprintln(cmd.ErrOrStderr(), "the server goes on with it")
					return nil
				case <-tick.C:
				}
				all, err := backupList(cmd, &r)
				if err != nil {
					return err
				}
				st = all.State
			}
			if st.Error != "" {
				return errors.New(st.Error)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "backup %s made: %.1f MiB, of which %.1f MiB were new\n", st.ID, mib(st.TotalBytes), mib(st.CopiedBytes))
			return err
		},
	}
	r.flags(cmd)
	cmd.AddCommand(newBackupList())
	return cmd
}

func newBackupList() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "list", Short: "List the server's backups, the newest last", Args: args(cobra.NoArgs),
		Example: "  crowsnest backup list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			all, err := backupList(cmd, &r)
			if err != nil {
				return err
			}
			for _, b := range all.Items {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %.1f MiB  %d files  made by %s\n", b.ID, mib(b.Bytes), b.Files, b.Version); err != nil {
					return err
				}
			}
			return nil
		},
	}
	r.flags(cmd)
	return cmd
}

type backupsAnswer struct {
	State backups.State    `json:"state"`
	Items []backups.Backup `json:"items"`
}

func backupList(cmd *cobra.Command, r *remote) (all backupsAnswer, err error) {
	err = r.json(cmd.Context(), http.MethodGet, "/backups", nil, &all)
	return all, err
}

func newRestore(_ *common) *cobra.Command {
	var from, fromBucket, id, data string
	cmd := &cobra.Command{
		Use: "restore", Short: "Make a data folder of a backup", Args: args(cobra.NoArgs),
		Long: "Make a new data folder of a backup, for a server that does not run yet. Every file is compared with what the backup says, and every block of samples is read through. " +
			"Put the secrets.key of the server's folder into it before the server starts: no backup has it, and without it the secrets of targets must be entered anew. " +
			"An interrupted restore is gone on with when it is asked for again.\n\n" + precedence,
		Example: `  crowsnest restore --from /backups/crowsnest --to ./data
  crowsnest restore --from /backups/crowsnest --backup 20261123T100000.000Z --to ./data
  crowsnest restore --from-bucket bucket.yaml --to ./data`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (from == "") == (fromBucket == "") || data == "" {
				return errors.New("--to, and one of --from and --from-bucket, are required: the data folder to make, and the backup folder or the file of the bucket")
			}
			place := backup.Folder(from)
			if fromBucket != "" {
				b, err := bucket.OpenFile(fromBucket)
				if err != nil {
					return err
				}
				defer func() { _ = b.Close() }() // read only
				place = backup.Bucket(b, "", time.Now)
			}
			said := time.Time{}
			m, err := backup.Restore(cmd.Context(), place, id, data, func(p backup.Progress) {
				if time.Since(said) > time.Second {
					said = time.Now()
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: %.0f of %.0f MiB\n", p.Step, mib(p.Done), mib(p.Total))
				}
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s holds backup %s now, %.1f MiB; start the server with --data %s\n", data, m.ID, mib(m.Bytes()), data)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "the backup folder")
	f.StringVar(&fromBucket, "from-bucket", "", "file of the bucket of backups, as the server's --backup-bucket has it")
	f.StringVar(&id, "backup", "", "which backup; default: the newest")
	f.StringVar(&data, "to", "", "the data folder to make; it must be empty or not there")
	return cmd
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
