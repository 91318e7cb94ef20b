package simulate

import (
	"fmt"
	"strings"
)

var (
	paths    = []string{"/api/cart", "/api/cart/items", "/api/checkout", "/api/products?page=2", "/api/products/8812", "/healthz", "/api/login", "/api/orders", "/static/app.js", "/api/search?q=boots"}
	methods  = []string{"GET", "GET", "GET", "POST", "PUT", "DELETE"}
	messages = []string{"request handled", "cache refreshed", "message consumed", "order stored", "session opened", "batch written", "price recalculated", "index segment merged"}
	failures = []string{"upstream timed out", "connection refused by database", "optimistic lock failed, retrying", "payment provider answered 502", "circuit breaker opened"}
	classes  = []string{"OrderService", "CheckoutController", "LedgerRepository", "StockClient", "SyncJob"}
	methodsJ = []string{"process", "handle", "findById", "commit", "run"}
)

func pick(list []string, h uint64) string { return list[h%uint64(len(list))] }

// line makes the n-th line of a container, as the program would print it. sick
// programs complain much more.
func (s *slot) line(n int64, sick bool) string {
	h := hash(s.key, 111, uint64(n))
	g := hash(h, 1)
	u := unit(h, 2)
	bad, warn := 0.008, 0.04
	if sick {
		bad, warn = 0.35, 0.3
	}
	level := "info"
	switch {
	case u < bad:
		level = "error"
	case u < bad+warn:
		level = "warn"
	case u > 0.9:
		level = "debug"
	}
	took := 2 + 40*unit(h, 3)*unit(h, 4)
	msg := pick(messages, g)
	if level == "error" || level == "warn" {
		msg = pick(failures, g)
	}
	switch s.w.style {
	case styleAccess:
		status := 200
		switch {
		case level == "error":
			status = 502
		case level == "warn":
			status = 404
		case u > 0.85:
			status = 304
		}
		return fmt.Sprintf(`10.%d.%d.%d - - "%s %s HTTP/1.1" %d %d "-" "Mozilla/5.0" %.3f`, g%200, g>>8%250, g>>16%250, pick(methods, g>>3), pick(paths, g>>5), status, 200+g>>20%9000, took/1000)
	case styleLogfmt:
		return fmt.Sprintf(`level=%s msg=%q worker=%d duration_ms=%.1f attempt=%d trace_id=%016x`, level, msg, g%8, took, 1+g>>9%3, g)
	case styleKlog:
		letter := strings.ToUpper(level[:1])
		if level == "debug" {
			letter = "I"
		}
		return fmt.Sprintf(`%s1123 10:%02d:%02d.%06d       1 reconciler.go:%d] %s object="%s/%s-%d"`, letter, g%60, g>>6%60, g>>12%1e6, 100+g>>30%300, msg, s.w.namespace, s.w.name, g%50)
	case styleJava:
		class := pick(classes, g>>4)
		text := fmt.Sprintf("%-5s [worker-%d] c.a.%s.%s - %s in %.0f ms", strings.ToUpper(level), g%12, s.w.namespace, class, msg, took)
		if level == "error" {
			text += fmt.Sprintf("\njava.lang.IllegalStateException: %s\n\tat com.acme.%s.%s.%s(%s.java:%d)\n\tat com.acme.common.Retry.call(Retry.java:41)\n\tat java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:1144)\n\tat java.base/java.lang.Thread.run(Thread.java:1583)\nCaused by: java.net.SocketTimeoutException: Read timed out\n\t... 14 more",
				msg, s.w.namespace, class, pick(methodsJ, g>>7), class, 30+g>>11%400)
		}
		return text
	default:
		return fmt.Sprintf(`{"level":%q,"msg":%q,"method":%q,"path":%q,"status":%d,"duration_ms":%.2f,"user_id":%d,"trace_id":"%016x"}`,
			level, msg, pick(methods, g>>3), pick(paths, g>>5), map[string]int{"error": 500, "warn": 409, "info": 200, "debug": 200}[level], took, g>>22%100000, g)
	}
}

// last is what the program prints when it ends against its will.
func (s *slot) last(h uint64) string {
	if s.w.style == styleJava {
		return "ERROR [main] c.a." + s.w.namespace + ".Main - cannot start\njava.lang.RuntimeException: no connection to legacy-db:1521\n\tat com.acme.legacy.Main.connect(Main.java:88)\n\tat com.acme.legacy.Main.main(Main.java:23)"
	}
	return fmt.Sprintf(`{"level":"fatal","msg":"panic: runtime error: invalid memory address or nil pointer dereference","goroutine":%d}`, h%200)
}
