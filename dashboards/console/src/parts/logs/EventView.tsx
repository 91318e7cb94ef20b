import { Button, Skeleton } from "@mantine/core";
import { useMemo } from "react";
import type { ClusterId } from "@/api/keys";
import type { Row } from "@/api/logsql";
import { NodeLink, PodLink } from "@/parts/objects/links";
import { useRange, useSetRange } from "@/parts/page";
import { clock, count } from "@/ui/format";
import { Empty, Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { resolveRange, widen } from "@/ui/time";
import { Histogram } from "./Histogram";
import { QueryLine } from "./LogView";
import classes from "./logs.module.css";
import { keyed, type LogScope, logsQuery, message, rowTime } from "./model";
import { useHistogram, useLogs } from "./queries";

interface Props {
  readonly cluster: ClusterId | undefined;
  readonly scope: LogScope;
  readonly typed: string;
  readonly onTyped: (typed: string) => void;
  readonly what: string;
  /** A LogsQL filter that belongs to the view, not to the reader. */
  readonly fixed?: string;
  /** Show which object an event is about. */
  readonly withObject: boolean;
  readonly withCluster?: boolean;
}

const limit = 500;
const eventWords = { warn: "warnings", info: "normal" };

/** Kubernetes events: when, what kind, why, in whose words. */
export function EventView({ cluster, scope, typed, onTyped, what, fixed, withObject, withCluster = false }: Props) {
  const range = useRange();
  const setRange = useSetRange();
  const now = useNow();
  const query = logsQuery(scope, typed, "events", fixed);
  const events = useLogs(cluster, query, limit);
  const hits = useHistogram(cluster, query, "type");
  const rows = useMemo(() => keyed(events.data ?? []), [events.data]);
  const { start, end } = resolveRange(range, now);
  return (
    <div className={classes.view}>
      <div className={classes.bar1}>
        <QueryLine key={typed} typed={typed} onTyped={onTyped} label={`search ${what}`} placeholder="Words, reason:BackOff, type:Warning … (LogsQL), Enter searches" />
      </div>
      {hits.data ? <Histogram data={hits.data} onZoom={setRange} words={eventWords} /> : hits.error ? null : <Skeleton height={90} radius={8} />}
      {events.error && !events.data ? (
        <Failure what="Events" error={events.error} onRetry={() => void events.refetch()} />
      ) : !events.data ? (
        <Skeleton height={320} radius={8} />
      ) : rows.length === 0 ? (
        <Empty
          title="No events"
          action={
            <Button size="xs" variant="default" onClick={() => setRange(widen(range, now))}>
              Search twice as long
            </Button>
          }
        >
          Searched {what} from {clock(start, now)} to {clock(end, now)}
          {typed === "" ? "" : ` for ${typed}`}.
        </Empty>
      ) : (
        <div className={classes.events} role="list" aria-label="events">
          {rows.map(({ key, row }) => (
            <div key={key} role="listitem" className={classes.event}>
              <span className={classes.eventTime} title={row._time}>
                {clock(rowTime(row), now, true)}
              </span>
              <span className={classes.eventReason}>
                {row.type === "Warning" ? <StateLabel state="warning">{row.reason}</StateLabel> : <span>{row.reason}</span>}
                {Number(row.count ?? 1) > 1 ? <span className={classes.eventCount}>×{count(Number(row.count))}</span> : null}
              </span>
              {withObject ? (
                <span className={classes.eventObject} title={eventObject(row, withCluster)}>
                  <EventObject row={row} withCluster={withCluster} />
                </span>
              ) : null}
              <span className={classes.eventMessage}>{message(row)}</span>
            </div>
          ))}
        </div>
      )}
    </div>
  );
}

/** The object, as a link where it has a page. */
function EventObject({ row, withCluster }: { row: Row; withCluster: boolean }) {
  const words = eventObject(row, withCluster);
  const { cluster, namespace, kind, name } = row;
  if (cluster === undefined || name === undefined) return words;
  if (kind === "Node") return <NodeLink cluster={cluster} node={name}>{words}</NodeLink>;
  if (kind === "Pod" && namespace !== undefined) return <PodLink cluster={cluster} namespace={namespace} pod={name}>{words}</PodLink>;
  return words;
}

function eventObject(row: Row, withCluster: boolean): string {
  const place = [withCluster ? row.cluster : undefined, row.namespace].filter(Boolean).join(" ▸ ");
  return `${place === "" ? "" : `${place} ▸ `}${(row.kind ?? "").toLowerCase()} ${row.name ?? row.pod ?? ""}`;
}
