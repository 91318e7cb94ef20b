package main

import (
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	remotelogs "github.com/crowsnest-dev/crowsnest/storage/logs/remote"
)

// openLogs opens the store of lines that the settings name.
func (a *app) openLogs() (*logs.Store, error) {
	s := a.settings
	if err := logs.Prepare(logCacheBytes); err != nil {
		return nil, err
	}
	o := logs.Options{
		Dir: a.dir.join("logs"), Retention: s.logsFor.value, MaxBytes: s.logsMax.bytes,
		ClusterRetention: s.logsClusters.by, Logger: a.logger.With("part", partLogs), Registerer: a.registry,
	}
	if s.logsEngine != engineRemote {
		return logs.Open(o)
	}
	http, err := httpConfig("logs-http-config", s.logsHTTPFile)
	if err != nil {
		return nil, err
	}
	if o.Remote, err = remotelogs.New(remotelogs.Options{
		WriteURL: s.logsWriteURL, QueryURL: s.logsQueryURL, HTTP: http, Logger: o.Logger, Registerer: a.registry,
	}); err != nil {
		return nil, err
	}
	if folderSize(a.dir.join("logs/partitions")) > 0 {
		a.logger.Warn("lines that the embedded store has kept are not read while a remote engine is used", "dir", a.dir.join("logs"))
	}
	return logs.Open(o)
}
