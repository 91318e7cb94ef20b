import { useMemo } from "react";
import type { ClusterId } from "@/api/keys";
import type { Node } from "@/api/types";
import { PercentCell } from "@/ui/Bars";
import { type Column, DataTable } from "@/ui/DataTable";
import { age, count, instant, plural } from "@/ui/format";
import { useNow } from "@/ui/now";
import { rank, StateLabel } from "@/ui/state";
import { filterRows, parseSort, sortText } from "@/ui/table";
import { NodeLink } from "./links";
import { nodeReasons, nodeState, percentTone } from "./model";

interface Props {
  readonly cluster: ClusterId;
  readonly filter: string;
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
  readonly nodes: readonly Node[];
}

const worstFirst = { column: "state", descending: false };

const nodeKey = (n: Node) => n.name;

export function NodeTable({ cluster, nodes, filter, sort, onSort }: Props) {
  const now = useNow();
  const columns = useMemo(() => nodeColumns(cluster, now), [cluster, now]);
  const rows = useMemo(
    () => filterRows(nodes, (n) => `${n.name} ${n.roles.join(" ")} ${nodeReasons(n).join(" ")} ${n.internal_ip ?? ""}`, filter),
    [nodes, filter],
  );
  return (
    <DataTable
      label="nodes"
      columns={columns}
      rows={rows}
      rowKey={nodeKey}
      sort={parseSort(sort, worstFirst)}
      onSort={(s) => onSort(sortText(s))}
      empty={nodes.length === 0 ? "This cluster has no nodes of its own." : `None of ${plural(nodes.length, "node")} matches “${filter}”.`}
    />
  );
}

function nodeColumns(cluster: ClusterId, now: number): Column<Node>[] {
  return [
    {
      id: "state",
      header: "State",
      width: "minmax(110px, 200px)",
      phoneWidth: "78px",
      sort: (n) => rank(nodeState(n)),
      cell: (n) => <StateLabel state={nodeState(n)}>{nodeReasons(n)[0] ?? "ready"}</StateLabel>,
    },
    {
      id: "name",
      header: "Node",
      width: "minmax(180px, 2fr)",
      phoneWidth: "minmax(0, 1fr)",
      wraps: true,
      sort: (n) => n.name,
      cell: (n) => <NodeLink cluster={cluster} node={n.name} />,
    },
    { id: "roles", header: "Roles", width: "minmax(80px, 1fr)", wide: true, sort: (n) => n.roles.join(), cell: (n) => n.roles.join(", ") },
    {
      id: "cpu",
      header: "CPU",
      unit: "%",
      numeric: true,
      width: "124px",
      phoneWidth: "64px",
      sort: (n) => n.cpu_percent,
      cell: (n) => <PercentCell value={n.cpu_percent} tone={percentTone(n.cpu_percent)} />,
    },
    {
      id: "memory",
      header: "Memory",
      unit: "%",
      numeric: true,
      width: "124px",
      phoneWidth: "60px",
      sort: (n) => n.mem_percent,
      cell: (n) => <PercentCell value={n.mem_percent} tone={percentTone(n.mem_percent)} />,
    },
    { id: "pods", header: "Pods", numeric: true, wide: true, width: "64px", sort: (n) => n.pods, cell: (n) => count(n.pods) },
    {
      id: "restarts",
      header: "Restarts",
      unit: "1 h",
      numeric: true,
      wide: true,
      width: "92px",
      sort: (n) => n.restarts_1h,
      cell: (n) => count(n.restarts_1h),
    },
    { id: "version", header: "Kubelet", wide: true, width: "96px", sort: (n) => n.kubelet_version, cell: (n) => n.kubelet_version ?? "" },
    {
      id: "age",
      header: "Age",
      numeric: true,
      wide: true,
      width: "76px",
      sort: (n) => {
        const at = instant(n.created_at);
        return at === undefined ? null : now - at;
      },
      cell: (n) => age(n.created_at, now),
    },
  ];
}
