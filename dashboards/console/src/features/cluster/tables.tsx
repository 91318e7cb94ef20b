import { useMemo } from "react";
import type { Cluster, ClusterSource } from "@/api/types";
import { useCatalogue } from "@/parts/queries";
import { Copy, Section } from "@/ui/Bits";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, count, instant } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";
import classes from "./cluster.module.css";
import { byReason, sourceState } from "./model";

const worstFirst = { column: "state", descending: false };

/** Which metrics this cluster does not have, and why. */
export function Unavailable({ cluster }: { cluster: Cluster }) {
  const catalogue = useCatalogue();
  const reasons = byReason(cluster.unavailable, catalogue.data ?? []);
  return (
    <Section title="Not available here">
      <div className={classes.lacking}>
        {reasons.length === 0 ? (
          <p>Every metric of the catalogue is filled on this cluster.</p>
        ) : (
          reasons.map((r) => (
            <div key={r.reason} className={classes.reason}>
              <p>{r.reason}</p>
              <ul>
                {r.metrics.map((m) => (
                  <li key={m.name} title={m.name}>
                    {m.title} <Copy value={m.name} what="the metric's name" />
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
        header: "State",
        width: "112px",
        phoneWidth: "84px",
        sort: (s) => rank(sourceState(s)),
        cell: (s) => (
          <StateLabel state={sourceState(s)}>{{ ok: "up", warning: "partly blind", critical: "down" }[sourceState(s)]}</StateLabel>
        ),
      },
      { id: "name", header: "Source", width: "minmax(160px, 1.5fr)", phoneWidth: "minmax(0, 1fr)", sort: (s) => s.name, cell: (s) => s.name },
      { id: "sender", header: "Collector", width: "minmax(110px, 1fr)", wide: true, sort: (s) => s.sender, cell: (s) => s.sender },
      {
        id: "measured",
        header: "Measured",
        numeric: true,
        width: "110px",
        phoneWidth: "84px",
        sort: (s) => s.expected - s.measured,
        cell: (s) => (s.expected > 0 ? `${count(s.measured)} of ${count(s.expected)}` : count(s.measured)),
      },
      {
        id: "last",
        header: "Last success",
        numeric: true,
        wide: true,
        width: "110px",
        sort: (s) => instant(s.last_success_at),
        cell: (s) => (instant(s.last_success_at) === undefined ? "never" : `${age(s.last_success_at, now)} ago`),
      },
      { id: "error", header: "What is wrong", wide: true, width: "minmax(160px, 3fr)", sort: (s) => s.error, cell: (s) => <span title={s.error}>{s.error}</span> },
    ];
  }, [now]);
  return (
    <Section title="Data sources" note={sources.length > 0 ? count(sources.length) : undefined}>
      <DataTable
        label="data sources"
        columns={columns}
        rows={sources}
        rowKey={sourceKey}
        sort={parseSort(sort, worstFirst)}
        onSort={(s) => onSort(sortText(s))}
        empty="No collector of this cluster has reported its sources yet."
      />
    </Section>
  );
}
