import { Skeleton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { Container, Pod } from "@/api/types";
import { LogLines } from "@/parts/logs/LogLines";
import { logsQuery } from "@/parts/logs/model";
import { useLogsOf } from "@/parts/logs/queries";
import { Card, Section } from "@/ui/Bits";
import { age, clock, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { toRFC3339 } from "@/ui/time";
import classes from "./pod.module.css";

type Ended = Container & { last: NonNullable<Container["last"]> };

/** Of each container that ended before: how, when, and its last words. */
export function LastEnds({ cluster, pod }: { cluster: string; pod: Pod }) {
  const ended = pod.containers.filter((c): c is Ended => c.last !== undefined && c.restart_count > 0);
  return ended.map((c) => <LastEnd key={c.name} cluster={cluster} pod={pod} container={c} />);
}

function LastEnd({ cluster, pod, container: c }: { cluster: string; pod: Pod; container: Ended }) {
  const now = useNow();
  const at = instant(c.last.finished_at) ?? now;
  // The end may be stamped by the second, lines by the nanosecond.
  const range = { from: toRFC3339(Math.floor(at - 3600)), to: toRFC3339(Math.floor(at) + 1) };
  const scope = { cluster, namespace: pod.namespace, pod: pod.name, container: c.name };
  const lines = useLogsOf(cluster, logsQuery(scope, "", "logs"), range, 50);
  return (
    <Section
      title={`How ${c.name} ended last`}
      note={`${age(c.last.finished_at, now)} ago`}
      right={
        <Link to="/logs" search={{ ...scope, ...range }}>
          All its lines before that
        </Link>
      }
    >
      <Card>
        <StateLabel state={c.last.exit_code === 0 ? "idle" : "critical"}>
          {c.last.reason || "ended"}, exit code {c.last.exit_code}
          {exitWords(c.last.exit_code)}, at {clock(at, now, true)}
        </StateLabel>
      </Card>
      {lines.error && !lines.data ? (
        <p className={classes.quiet}>Its last lines could not be loaded: {lines.error.message}</p>
      ) : !lines.data ? (
        <Skeleton height={120} radius={8} />
      ) : lines.data.length === 0 ? (
        <p className={classes.quiet}>No line of it in the hour before its end is kept.</p>
      ) : (
        <div className={classes.lastLines}>
          <LogLines rows={lines.data} wrap={false} />
        </div>
      )}
    </Section>
  );
}

/** What an exit code over 128 means: the signal that ended the process. */
export function exitWords(code: number): string {
  const signals: Record<number, string> = { 130: "interrupted", 134: "aborted", 137: "killed (SIGKILL: out of memory, or not gone in time)", 139: "segmentation fault", 143: "asked to end (SIGTERM)" };
  return signals[code] === undefined ? "" : `: ${signals[code]}`;
}
