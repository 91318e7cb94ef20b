import { Button, Skeleton } from "@mantine/core";
import { IconShieldPlus } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { ClusterId } from "@/api/keys";
import type { Row } from "@/api/logsql";
import { logs as m } from "@/i18n/logs";
import { NodeLink, PodLink } from "@/parts/objects/links";
import { useRange, useSetRange } from "@/parts/page";
import { clock } from "@/ui/format";
import { Empty, Failure } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import { resolveRange, widen } from "@/ui/time";
import { Histogram } from "./Histogram";
import classes from "./logs.module.css";
import { keyed, type LogScope, logsQuery, message, policySearch, rowTime } from "./model";
import { useHistogram, useLogs } from "./queries";
import { Search } from "./Search";
import { useLineSearch } from "./lineSearch";

interface Props {
  readonly cluster: ClusterId | undefined;
  readonly scope: LogScope;
  readonly what: string;
  /** A LogsQL filter that belongs to the view, not to the reader. */
  readonly fixed?: string;
  /** Show which object an event is about. */
  readonly withObject: boolean;
  readonly withCluster?: boolean;
}

const page = 200;
const eventWords = { warn: m.events.warnings, info: m.events.normal };

/** Kubernetes events: when, what kind, why, in whose words. */
export function EventView({ cluster, scope, what, fixed, withObject, withCluster = false }: Props) {
  const [{ typed, form }, set] = useLineSearch();
  const [limit, setLimit] = useState(page);
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
      <Search
        cluster={cluster}
        kind="events"
        typed={typed}
        onTyped={(next) => set({ typed: next })}
        form={form}
        onForm={(next) => set({ form: next })}
        base={logsQuery(scope, "", "events", fixed)}
        what={what}
        placeholder={m.events.placeholder}
        oneWorkload
      >
        <Button size="xs" variant="default" leftSection={<IconShieldPlus size={14} />} renderRoot={(props) => <Link to="/new/policy" search={policySearch("events", scope, typed, fixed)} {...props} />}>
          {m.bar.alert}
        </Button>
      </Search>
      {hits.data ? <Histogram data={hits.data} onZoom={setRange} words={eventWords} /> : hits.error ? null : <Skeleton height={90} radius={8} />}
      {events.error && !events.data ? (
        <Failure what={m.events.what} error={events.error} onRetry={() => void events.refetch()} />
      ) : !events.data ? (
        <Skeleton height={320} radius={8} />
      ) : rows.length === 0 ? (
        <Empty
          title={m.events.none}
          action={
            <div className={classes.actions}>
              <Button size="xs" variant="default" onClick={() => setRange(widen(range, now))}>
                {m.lines.twice}
              </Button>
              {typed === "" ? null : (
                <Button size="xs" variant="default" onClick={() => set({ typed: "" })}>
                  {m.lines.without(typed)}
                </Button>
              )}
            </div>
          }
        >
          {m.lines.searched(what, clock(start, now), clock(end, now), typed)}
        </Empty>
      ) : (
        <>
        {events.error ? <Failure what={m.events.newer} error={events.error} onRetry={() => void events.refetch()} /> : null}
        <div className={classes.events} role="list" aria-label={m.events.list}>
          {rows.map(({ key, row }) => (
            <div key={key} role="listitem" className={classes.event}>
              <span className={classes.eventTime} title={row._time}>
                {clock(rowTime(row), now, true)}
              </span>
              <span className={classes.eventReason}>
                {row.type === "Warning" ? <StateLabel state="warning">{row.reason}</StateLabel> : <span>{row.reason}</span>}
                {Number(row.count ?? 1) > 1 ? <span className={classes.eventCount}>{m.events.times(Number(row.count))}</span> : null}
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
        <div className={classes.foot}>
          {rows.length < limit ? (
            <span>{m.events.all(rows.length)}</span>
          ) : (
            <>
              <span>{m.events.newest(limit)}</span>
              <Button size="xs" variant="default" loading={events.isPlaceholderData} onClick={() => setLimit(limit * 2)}>
                {m.lines.more(limit)}
              </Button>
            </>
          )}
        </div>
        </>
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
