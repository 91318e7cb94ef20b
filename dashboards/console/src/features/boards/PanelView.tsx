import { Skeleton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { type ReactNode, useMemo, useState } from "react";
import { everyCluster } from "@/api/keys";
import { boards } from "@/i18n/boards";
import { type BoardPanel, drawn } from "@/parts/boards/model";
import { ChartPanel } from "@/parts/charts/ChartPanel";
import { chartStep } from "@/parts/charts/queries";
import { ClusterTable } from "@/parts/clusters/ClusterTable";
import { IncidentTable } from "@/parts/incidents/IncidentTable";
import { LogLines } from "@/parts/logs/LogLines";
import { useLogs } from "@/parts/logs/queries";
import { NodeTable } from "@/parts/objects/NodeTable";
import { PodTable } from "@/parts/objects/PodTable";
import { WorkloadTable } from "@/parts/objects/WorkloadTable";
import { useRange } from "@/parts/page";
import { QueryChart } from "@/parts/promql/QueryChart";
import { QueryTable } from "@/parts/promql/QueryTable";
import { useCatalogue, useClusters, useIncidents, useNodes, usePods, useSought, useWorkloads } from "@/parts/queries";
import { Empty, Loaded, TableSkeleton } from "@/ui/Feedback";
import { filterRows } from "@/ui/table";
import classes from "./boards.module.css";

const m = boards.panel;

interface Props {
  readonly panel: BoardPanel;
  /** Keeps how a table is sorted; without it the order is this reader's own and lasts as long as the page. */
  readonly onSort: ((sort: string) => void) | undefined;
}

/** One panel of a board, asked and drawn. */
export function PanelView({ panel, onSort }: Props) {
  switch (panel.kind) {
    case "chart":
      return <Chart panel={panel} />;
    case "query":
      return (
        <Box
          title={panel.title}
          open={
            <Link to="/explore" search={{ q: panel.query ?? "", ...(panel.view === "table" ? { view: "table" } : {}) }}>
              {m.explore}
            </Link>
          }
        >
          {panel.view === "table" ? <Sorted panel={panel} onSort={onSort} fallback="-value">{(sort, set) => <QueryTable query={panel.query ?? ""} sort={sort} onSort={set} />}</Sorted> : <QueryChart query={panel.query ?? ""} height={200} />}
        </Box>
      );
    case "logs":
      return (
        <Box
          title={panel.title}
          open={
            <Link to="/logs" search={{ q: panel.query ?? "" }}>
              {m.logs}
            </Link>
          }
        >
          <Lines query={panel.query ?? ""} />
        </Box>
      );
    case "table":
      return (
        <Box title={panel.title}>
          <Sorted panel={panel} onSort={onSort}>{(sort, set) => <Table panel={panel} sort={sort} onSort={set} />}</Sorted>
        </Box>
      );
  }
}

const Box = ({ title, open, children }: { title: string; open?: ReactNode; children: ReactNode }) => (
  <section className={classes.box} aria-label={title}>
    <header className={classes.boxHead}>
      <h3>{title}</h3>
      {open === undefined ? null : <span className={classes.open}>{open}</span>}
    </header>
    {children}
  </section>
);

function Sorted({ panel, onSort, fallback, children }: Props & { fallback?: string; children: (sort: string | undefined, set: (sort: string) => void) => ReactNode }) {
  const [own, setOwn] = useState<string | undefined>();
  return children(onSort ? (panel.sort ?? fallback) : (own ?? panel.sort ?? fallback), onSort ?? setOwn);
}

const none: readonly string[] = [];

function Chart({ panel }: { panel: BoardPanel }) {
  const catalogue = useCatalogue();
  const clusters = useClusters();
  const range = useRange();
  const what = useMemo(() => drawn(panel, catalogue.data ?? []), [panel, catalogue.data]);
  const isSought = useSought(panel.metrics ?? none);
  if (!catalogue.error && !what && !isSought) return <Skeleton height={238} radius={8} />;
  if (!what) {
    return (
      <Box title={panel.title}>
        <Empty title={m.undrawn}>{catalogue.error ? catalogue.error.message : m.noMetric(panel.metrics ?? [])}</Empty>
      </Box>
    );
  }
  const cluster = what.object.cluster ?? everyCluster;
  const interval = clusters.data?.find((c) => c.id === cluster)?.interval_seconds ?? 30;
  return <ChartPanel cluster={cluster} panel={what.panel} title={panel.title} object={what.object} {...(panel.by ? { by: panel.by } : {})} stepSeconds={chartStep(range, interval)} />;
}

function Lines({ query }: { query: string }) {
  const logs = useLogs(undefined, query, 100);
  return (
    <Loaded query={logs} what={m.lines} skeleton={<Skeleton height={240} radius={8} />}>
      {(rows) =>
        rows.length === 0 ? (
          <Empty title={m.noLines}>{m.noLinesText}</Empty>
        ) : (
          <div className={classes.scroll}>
            <LogLines rows={rows} wrap={false} origin={(r) => r.pod ?? ""} />
          </div>
        )
      }
    </Loaded>
  );
}

interface TableProps {
  readonly panel: BoardPanel;
  readonly sort: string | undefined;
  readonly onSort: (sort: string) => void;
}

/** A table of objects, narrowed as it was when it was pinned. */
function Table({ panel, sort, onSort }: TableProps) {
  const { cluster = "", namespace, node, workload_type, workload } = panel.object ?? {};
  const filter = panel.filter ?? "";
  const is = (of: string) => panel.of === of;
  const clusters = useClusters();
  const nodes = useNodes(cluster, false, is("nodes"));
  const workloads = useWorkloads(cluster, false, is("workloads"), namespace);
  const pods = usePods(cluster, { ...(namespace === undefined ? {} : { namespace }), ...(node === undefined ? {} : { node }), ...(workload_type === undefined ? {} : { workload_type }), ...(workload === undefined ? {} : { workload }) }, is("pods"));
  const incidents = useIncidents("active", cluster === "" ? undefined : cluster);
  const skeleton = <TableSkeleton rows={4} />;
  switch (panel.of) {
    case "nodes":
      return (
        <Loaded query={nodes} what={m.nodes} skeleton={skeleton}>
          {(list) => <NodeTable cluster={cluster} nodes={list.items} filter={filter} sort={sort} onSort={onSort} />}
        </Loaded>
      );
    case "workloads":
      return (
        <Loaded query={workloads} what={m.workloads} skeleton={skeleton}>
          {(list) => <WorkloadTable cluster={cluster} workloads={list.items} filter={filter} sort={sort} onSort={onSort} />}
        </Loaded>
      );
    case "pods":
      return (
        <Loaded query={pods} what={m.pods} skeleton={skeleton}>
          {(list) => <PodTable cluster={cluster} pods={list} of={workload === undefined ? "node" : "workload"} filter={filter} sort={sort} onSort={onSort} />}
        </Loaded>
      );
    case "incidents":
      return (
        <Loaded query={incidents} what={m.incidents} skeleton={skeleton}>
          {(list) => <IncidentTable incidents={filterRows(list, (i) => i.title, filter)} sort={sort} onSort={onSort} empty={m.noIncident} />}
        </Loaded>
      );
    default:
      return (
        <Loaded query={clusters} what={m.clusters} skeleton={skeleton}>
          {(list) => <ClusterTable clusters={filterRows(list, (c) => `${c.name} ${c.sentence}`, filter)} sort={sort} onSort={onSort} />}
        </Loaded>
      );
  }
}
