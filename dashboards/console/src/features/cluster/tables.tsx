import { useMemo } from "react";
import type { Cluster, ClusterSource, Collector } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { useCatalogue } from "@/parts/queries";
import { Card, Copy, Named, Section } from "@/ui/Bits";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, bytes, count, instant, number, percent } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import classes from "./cluster.module.css";
import { byReason, knowsItsObjects, sourceState } from "./model";
import { useCollectors, useSourceChanges } from "./queries";

const worstFirst = { column: "state", descending: false };

/** Which metrics this cluster does not have, and why. */
export function Unavailable({ cluster }: { cluster: Cluster }) {
  const catalogue = useCatalogue();
  const reasons = byReason(cluster.unavailable, catalogue.data ?? []);
  return (
    <Section title={m.unavailable.title}>
      <div className={classes.lacking}>
        {reasons.length === 0 ? (
          <p>{knowsItsObjects(cluster) ? m.unavailable.none : m.unavailable.unknown}</p>
        ) : (
          reasons.map((r) => (
            <div key={r.reason} className={classes.reason}>
              <p>{r.reason}</p>
              <ul>
                {r.metrics.map((x) => (
                  <li key={x.name} title={x.name}>
                    {x.title} <Copy value={x.name} what={m.unavailable.name} />
                  </li>
                ))}
              </ul>
            </div>
          ))
        )}
      </div>
    </Section>
  );
}

const sourceKey = (s: ClusterSource) => `${s.sender} ${s.name}`;

/** Where readings come from, and whether they come. */
export function Sources({ sources, sort, onSort }: { sources: readonly ClusterSource[]; sort: string | undefined; onSort: (s: string) => void }) {
  const now = useNow();
  const columns = useMemo((): Column<ClusterSource>[] => {
    return [
      {
        id: "state",
        header: m.columns.state,
        width: "112px",
        phoneWidth: "84px",
        sort: (s) => rank(sourceState(s)),
        cell: (s) => (
          <StateLabel state={sourceState(s)}>{{ ok: m.sources.up, warning: m.sources.blind, critical: m.sources.down }[sourceState(s)]}</StateLabel>
        ),
      },
      { id: "name", header: m.columns.source, width: "minmax(160px, 1.5fr)", phoneWidth: "minmax(0, 1fr)", wraps: true, sort: (s) => s.name, cell: (s) => <Named why={s.error}>{s.name}</Named> },
      { id: "sender", header: m.columns.collector, width: "minmax(110px, 1fr)", wide: true, sort: (s) => s.sender, cell: (s) => s.sender },
      {
        id: "measured",
        header: m.columns.measured,
        numeric: true,
        width: "110px",
        phoneWidth: "84px",
        sort: (s) => s.expected - s.measured,
        cell: (s) => (s.expected > 0 ? m.sources.measured(count(s.measured), count(s.expected)) : count(s.measured)),
      },
      {
        id: "last",
        header: m.columns.lastSuccess,
        numeric: true,
        wide: true,
        width: "110px",
        sort: (s) => instant(s.last_success_at),
        cell: (s) => (instant(s.last_success_at) === undefined ? m.never : m.ago(age(s.last_success_at, now))),
      },
      { id: "error", header: m.columns.wrong, wide: true, width: "minmax(160px, 3fr)", sort: (s) => s.error, cell: (s) => <span title={s.error}>{s.error}</span> },
    ];
  }, [now]);
  return (
    <Section title={m.sources.title} note={sources.length > 0 ? count(sources.length) : undefined}>
      <DataTable
        label={m.sources.what}
        columns={columns}
        rows={sources}
        rowKey={sourceKey}
        sort={parseSort(sort, worstFirst)}
        onSort={(s) => onSort(sortText(s))}
        empty={m.empty.sources}
      />
    </Section>
  );
}

/** The sources that failed or came back in the page's range. */
export function SourceChanges({ cluster }: { cluster: string }) {
  const changes = useSourceChanges(cluster);
  return (
    <Section title={m.sources.changed}>
      <Loaded query={changes} what={m.sources.changed} skeleton={<TableSkeleton rows={1} />}>
        {(list) => (
          <Card>
            {m.sources.changes(list.length)}
            {list.length > 0 ? (
              <ul className={classes.refused}>
                {list.slice(0, 20).map((c) => (
                  <li key={c.name}>
                    <StateLabel state={c.up < 95 ? "warning" : "info"}>{m.sources.change(c.name, c.times, percent(c.up))}</StateLabel>
                  </li>
                ))}
              </ul>
            ) : null}
          </Card>
        )}
      </Loaded>
    </Section>
  );
}

/** Who sends this cluster's data, and what waits or was lost on the way. */
export function Collectors({ cluster, sort, onSort }: { cluster: string; sort: string | undefined; onSort: (s: string) => void }) {
  const collectors = useCollectors(cluster);
  const now = useNow();
  const columns = useMemo((): Column<Collector>[] => {
    const dropped = (c: Collector) => c.dropped.reduce((sum, d) => sum + d.samples, 0);
    return [
      { id: "state", header: m.columns.state, width: "112px", phoneWidth: "100px", sort: (c) => (c.connected ? 1 : 0), cell: (c) => <StateLabel state={c.error ? "warning" : c.connected ? "ok" : "stale"}>{c.connected ? m.collectors.connected : m.collectors.silent}</StateLabel> },
      { id: "name", header: m.columns.collector, width: "minmax(140px, 1.5fr)", phoneWidth: "minmax(0, 1fr)", sort: (c) => c.sender, cell: (c) => c.sender },
      { id: "role", header: m.collectors.role, wide: true, width: "80px", sort: (c) => c.role, cell: (c) => c.role },
      { id: "version", header: m.collectors.version, wide: true, width: "100px", sort: (c) => c.version, cell: (c) => c.version },
      { id: "seen", header: m.collectors.seen, numeric: true, width: "96px", phoneWidth: "84px", sort: (c) => instant(c.last_seen_at), cell: (c) => m.ago(age(c.last_seen_at, now)) },
      { id: "queue", header: m.collectors.queue, numeric: true, wide: true, width: "96px", sort: (c) => c.queue_bytes, cell: (c) => bytes(c.queue_bytes) },
      { id: "clock", header: m.collectors.clock, unit: "s", numeric: true, wide: true, width: "84px", sort: (c) => Math.abs(c.clock_offset_seconds), cell: (c) => number(c.clock_offset_seconds) },
      { id: "dropped", header: m.collectors.dropped, numeric: true, wide: true, width: "96px", sort: dropped, cell: (c) => count(dropped(c)) },
      { id: "error", header: m.columns.wrong, wide: true, width: "minmax(140px, 2fr)", sort: (c) => c.error, cell: (c) => <span title={c.error}>{c.error ?? ""}</span> },
    ];
  }, [now]);
  return (
    <Section title={m.collectors.title} note={collectors.data ? count(collectors.data.length) : undefined}>
      <Loaded query={collectors} what={m.collectors.title} skeleton={<TableSkeleton rows={2} />}>
        {(list) => (
          <DataTable label={m.collectors.title.toLowerCase()} columns={columns} rows={list} rowKey={(c) => c.sender} sort={parseSort(sort, worstFirst)} onSort={(s) => onSort(sortText(s))} empty={m.collectors.none} />
        )}
      </Loaded>
    </Section>
  );
}
