import { memo, useMemo } from "react";
import { objects as m } from "@/i18n/objects";
import { useSparks } from "@/parts/sparks/Spark";
import type { SparkStore } from "@/parts/sparks/store";
import type { ClusterId } from "@/api/keys";
import type { Node } from "@/api/types";
import { type Column, DataTable } from "@/ui/DataTable";
import { count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { searchIn, parseSort, sortText } from "@/ui/table";
import { ageColumn, restartsColumn, shareColumn } from "./columns";
import { NodeCell } from "./links";
import { nodeReasons, nodeState } from "./model";

interface Props {
  readonly cluster: ClusterId;
  readonly filter: string;
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
  readonly nodes: readonly Node[];
}

const worstFirst = { column: "state", descending: false };

/** What names a node's spark lines. */
const sparkOf = (n: Node) => [n.name];
const cpuSpark = { metric: "k8s_node_cpu_usage", by: ["node"], narrow: "node" } as const;
const memSpark = { metric: "k8s_node_mem_usage", by: ["node"], narrow: "node" } as const;

const nodeKey = (n: Node) => n.name;

export const NodeTable = memo(function NodeTable({ cluster, nodes, filter, sort, onSort }: Props) {
  const now = useNow();
  const cpu = useSparks(cpuSpark, cluster);
  const mem = useSparks(memSpark, cluster);
  const columns = useMemo(() => nodeColumns(cluster, now, cpu, mem), [cluster, now, cpu, mem]);
  const search = useMemo(() => searchIn(nodes, (n) => `${n.name} ${n.roles.join(" ")} ${nodeReasons(n).join(" ")} ${n.internal_ip ?? ""}`), [nodes]);
  const rows = useMemo(() => search(filter), [search, filter]);
  return (
    <DataTable
      label={m.tabs.nodes.toLowerCase()}
      columns={columns}
      rows={rows}
      rowKey={nodeKey}
      sort={parseSort(sort, worstFirst)}
      onSort={(s) => onSort(sortText(s))}
      empty={nodes.length === 0 ? m.empty.nodes : m.empty.noMatch(m.counts.nodes(nodes.length), filter)}
    />
  );
});

function nodeColumns(cluster: ClusterId, now: number, cpu: SparkStore, mem: SparkStore): Column<Node>[] {
  return [
    {
      id: "state",
      header: m.columns.state,
      width: "minmax(110px, 200px)",
      phoneWidth: "78px",
      sort: (n) => rank(nodeState(n)),
      cell: (n) => <StateLabel state={nodeState(n)}>{nodeReasons(n)[0] ?? m.readyWord}</StateLabel>,
    },
    {
      id: "name",
      header: m.columns.node,
      width: "minmax(180px, 2fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (n) => n.name,
      cell: (n) => <NodeCell cluster={cluster} node={n.name} />,
    },
    { id: "roles", header: m.columns.roles, width: "minmax(80px, 1fr)", wide: true, sort: (n) => n.roles.join(), cell: (n) => n.roles.join(", ") },
    shareColumn({ id: "cpu", header: m.columns.cpu, unit: m.units.percent, value: (n) => n.cpu_percent, spark: { store: cpu, of: sparkOf } }, { width: "190px", phoneWidth: "64px" }),
    shareColumn({ id: "memory", header: m.columns.memory, unit: m.units.percent, value: (n) => n.mem_percent, spark: { store: mem, of: sparkOf } }, { width: "190px", phoneWidth: "60px" }),
    { id: "pods", header: m.columns.pods, numeric: true, wide: true, width: "64px", sort: (n) => n.pods, cell: (n) => count(n.pods) },
    restartsColumn(),
    { id: "version", header: m.columns.kubelet, wide: true, width: "96px", sort: (n) => n.kubelet_version, cell: (n) => n.kubelet_version ?? "" },
    ageColumn(now),
  ];
}
