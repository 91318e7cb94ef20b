import { Skeleton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { Container, Pod } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { LogLines } from "@/parts/logs/LogLines";
import { logsQuery } from "@/parts/logs/model";
import { useLogsOf } from "@/parts/logs/queries";
import { Card, Section } from "@/ui/Bits";
import { age, clock, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { toRFC3339 } from "@/ui/time";
import { exitWords } from "./model";
import classes from "./objects.module.css";

type Ended = Container & { last: NonNullable<Container["last"]> };

/** Of each container that ended before (or of one of them): how, when, and its last words. */
export function LastEnds({ cluster, pod, container }: { cluster: string; pod: Pod; container?: string }) {
  const ended = pod.containers.filter((c): c is Ended => c.last !== undefined && c.restart_count > 0 && (container === undefined || c.name === container));
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
      title={m.lastEnd.title(c.name)}
      note={m.ago(age(c.last.finished_at, now))}
      right={
        <Link to="/logs" search={{ ...scope, ...range }}>
          {m.lastEnd.before}
        </Link>
      }
    >
      <Card>
        <StateLabel state={c.last.exit_code === 0 ? "idle" : "critical"}>
          {m.lastEnd.how(c.last.reason || m.ended, c.last.exit_code, exitWords(c.last.exit_code), clock(at, now, true))}
        </StateLabel>
      </Card>
      {lines.error && !lines.data ? (
        <p className={classes.quiet}>{m.lastEnd.failed(lines.error.message)}</p>
      ) : !lines.data ? (
        <Skeleton height={120} radius={8} />
      ) : lines.data.length === 0 ? (
        <p className={classes.quiet}>{m.lastEnd.none}</p>
      ) : (
        <div className={classes.lastLines}>
          <LogLines rows={lines.data} wrap={false} />
        </div>
      )}
    </Section>
  );
}
