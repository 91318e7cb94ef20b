package logs

import "strings"

// Level gives the one spelling of a level that lines are stored with: trace,
// debug, info, warn, error or fatal. What is none of these under any usual name
// (syslog's words, one-letter forms, the numbers of bunyan and pino) is kept in
// lower case.
func Level(s string) string {
	l := strings.ToLower(strings.TrimSpace(s))
	if known, ok := levels[l]; ok {
		return known
	}
	return l
}

var levels = func() map[string]string {
	out := map[string]string{}
	for level, names := range map[string]string{
		"trace": "trace trc t finest finer 10",
		"debug": "debug dbg d fine verbose 20",
		"info":  "info inf i information informational notice normal 30",
		"warn":  "warn wrn w warning 40",
		"error": "error err e eror severe 50",
		"fatal": "fatal ftl f critical crit c panic emerg emergency alert dpanic 60",
	} {
		for _, n := range strings.Fields(names) {
			out[n] = level
		}
	}
	return out
}()
