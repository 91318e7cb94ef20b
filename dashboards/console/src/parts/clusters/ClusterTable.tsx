import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Cluster } from "@/api/types";
import { clusters as m } from "@/i18n/clusters";
import { shareOf } from "@/parts/objects/model";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, count, instant, percent } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel, stateOf } from "@/ui/state";
import { parseSort, sortText } from "@/ui/table";

const key = (c: Cluster) => c.id;

export function ClusterTable({ clusters, sort, onSort }: { clusters: readonly Cluster[]; sort: string | undefined; onSort: (sort: string) => void }) {
  const now = useNow();
  const columns = useMemo(() => clusterColumns(now), [now]);
  return <DataTable label={m.label} columns={columns} rows={clusters} rowKey={key} sort={parseSort(sort, { column: "state", descending: false })} onSort={(s) => onSort(sortText(s))} empty={m.noMatch} />;
}

function clusterColumns(now: number): Column<Cluster>[] {
  return [
    { id: "state", header: m.columns.state, width: "minmax(110px, 150px)", phoneWidth: "96px", sort: (c) => rank(stateOf(c.state)), cell: (c) => <StateLabel state={stateOf(c.state)} /> },
    {
      id: "name",
      header: m.columns.cluster,
      width: "minmax(140px, 1fr)",
      phoneWidth: "minmax(0, 1fr)",
      sort: (c) => c.name,
      cell: (c) => (
        <Link to="/clusters/$cluster" params={{ cluster: c.id }}>
          {c.name}
        </Link>
      ),
    },
    { id: "sentence", header: m.columns.sentence, wide: true, width: "minmax(180px, 2fr)", cell: (c) => <span title={c.sentence}>{c.sentence}</span> },
    { id: "kind", header: m.columns.kind, wide: true, width: "100px", sort: (c) => c.kind, cell: (c) => c.kind },
    { id: "version", header: m.columns.version, wide: true, width: "90px", sort: (c) => c.version, cell: (c) => c.version },
    { id: "nodes", header: m.columns.nodes, unit: m.ready, numeric: true, width: "104px", phoneWidth: "80px", sort: (c) => c.nodes.total, cell: (c) => `${count(c.nodes.ready)}/${count(c.nodes.total)}` },
    { id: "workloads", header: m.columns.unhealthy, numeric: true, wide: true, width: "96px", sort: (c) => c.workloads.abnormal, cell: (c) => `${count(c.workloads.abnormal)}/${count(c.workloads.total)}` },
    { id: "cpu", header: m.columns.cpu, unit: "%", numeric: true, wide: true, width: "72px", sort: (c) => shareOf(c.cpu), cell: (c) => percent(shareOf(c.cpu)) },
    { id: "memory", header: m.columns.memory, unit: "%", numeric: true, wide: true, width: "88px", sort: (c) => shareOf(c.memory), cell: (c) => percent(shareOf(c.memory)) },
    { id: "seen", header: m.columns.seen, numeric: true, wide: true, width: "96px", sort: (c) => instant(c.last_seen_at), cell: (c) => age(c.last_seen_at, now) },
  ];
}
