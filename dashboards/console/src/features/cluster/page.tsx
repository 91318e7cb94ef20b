import { getRouteApi } from "@tanstack/react-router";
import { lazy, Suspense, useMemo } from "react";
import type { Cluster } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { PinTable } from "@/parts/boards/PinButton";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { NamespaceTable } from "@/parts/objects/NamespaceTable";
import { NodeTable } from "@/parts/objects/NodeTable";
import { ObjectCharts } from "@/parts/objects/ObjectCharts";
import { FilterInput, ObjectPage, useObjectSearch, useTableSearch } from "@/parts/objects/ObjectPage";
import { PodTable } from "@/parts/objects/PodTable";
import { ServiceTable } from "@/parts/objects/ServiceTable";
import { WorkloadTable } from "@/parts/objects/WorkloadTable";
import { useCluster, useNamespaces, useNodes, useServices, useWorkloads } from "@/parts/queries";
import { type List, worstFirst } from "@/parts/worstFirst";
import { UsageBar } from "@/ui/Bars";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { age, bytes, cores, count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { StateCount, stateOf } from "@/ui/state";
import { Skeleton } from "@mantine/core";
import classes from "./cluster.module.css";
import { maxPods, useWorstPods } from "./queries";
import { Collectors, SourceChanges, Sources, Unavailable } from "./tables";

const Cost = lazy(() => import("./Cost"));
const LogRules = lazy(() => import("./LogRules"));

const route = getRouteApi("/clusters/$cluster");
const choice = { first: ["cpu", "memory", "pods", "nodes"], without: ["capacity"] };

export function ClusterPage() {
  const { cluster: id } = route.useParams();
  const [{ sort }, set] = useObjectSearch();
  const cluster = useCluster(id);
  const c = cluster.data;
  const place = useMemo(() => ({ cluster: id }), [id]);
  const onSort = (s: string) => set({ sort: s });
  const n = (v: number | undefined) => (v === undefined ? null : <span className={classes.n}>{count(v)}</span>);
  return (
    <ObjectPage
      place={place}
      query={cluster}
      name={c?.name ?? id}
      kind={c ? m.clusterKind(c.kind, c.version) : (m.kinds.cluster ?? "")}
      state={c ? stateOf(c.state) : undefined}
      sentence={c?.sentence}
      facts={c ? <Summary cluster={c} /> : cluster.error ? null : <Skeleton height={92} radius={8} />}
      origin={(row) => [row.namespace, row.pod].filter(Boolean).join(" ▸ ")}
      summaryLabel={m.tabs.charts}
      summary={() => (
        <ChartGrid>
          <ObjectCharts cluster={c} level="cluster" choice={choice} place={place} />
        </ChartGrid>
      )}
      tabs={[
        { value: "namespaces", label: m.tabs.namespaces, panel: () => <Namespaces id={id} /> },
        {
          value: "workloads",
          label: (
            <>
              {m.tabs.workloads} {n(c?.workloads.total)}
            </>
          ),
          panel: () => <Workloads id={id} />,
        },
        {
          value: "nodes",
          label: (
            <>
              {m.tabs.nodes} {n(c?.nodes.total)}
            </>
          ),
          panel: () => <Nodes id={id} />,
        },
        { value: "pods", label: m.tabs.pods, panel: () => <Pods id={id} /> },
        { value: "services", label: m.tabs.services, panel: () => <Services id={id} /> },
      ]}
      lastTabs={[
        {
          value: "sources",
          label: m.tabs.sources,
          panel: () =>
            c ? (
              <div className={classes.stack}>
                <Unavailable cluster={c} />
                <Collectors cluster={id} sort={sort} onSort={onSort} />
                <Sources sources={c.sources} sort={sort} onSort={onSort} />
                <SourceChanges cluster={id} />
              </div>
            ) : (
              <TableSkeleton />
            ),
        },
        {
          value: "log-rules",
          label: m.tabs.logRules,
          panel: () => (
            <Suspense fallback={<TableSkeleton />}>
              <LogRules cluster={id} />
            </Suspense>
          ),
        },
        {
          value: "cost",
          label: m.tabs.cost,
          panel: () => (
            <Suspense fallback={<TableSkeleton />}>
              <Cost cluster={id} />
            </Suspense>
          ),
        },
      ]}
    />
  );
}

function Summary({ cluster: c }: { cluster: Cluster }) {
  const now = useNow();
  return (
    <Card>
      <div className={classes.summary}>
        <Facts>
          <Fact label={m.facts.nodes}>
            <StateCount state="critical" n={c.nodes.total - c.nodes.ready}>
              {m.nReady(count(c.nodes.ready), count(c.nodes.total))}
            </StateCount>
          </Fact>
          <Fact label={m.facts.workloads}>
            <StateCount state="warning" n={c.workloads.abnormal}>
              {m.nUnhealthy(count(c.workloads.abnormal), count(c.workloads.total))}
            </StateCount>
          </Fact>
          <Fact label={m.facts.pods}>{count(Object.values(c.pods).reduce((a, b) => a + b, 0))}</Fact>
          <Fact label={m.facts.lastData}>{c.last_seen_at ? m.ago(age(c.last_seen_at, now)) : m.noneYet}</Fact>
          <Fact label={m.facts.interval}>{c.interval_seconds > 0 ? m.everySeconds(c.interval_seconds) : m.unknown}</Fact>
          <Fact label={m.facts.id}>{c.id}</Fact>
        </Facts>
        <div className={classes.bars}>
          <UsageBar name={m.facts.cpu} {...c.cpu} format={(v) => (v === null || v === undefined || v < 1 ? cores(v) : `${cores(v)} ${m.units.cores}`)} />
          <UsageBar name={m.facts.memory} {...c.memory} format={bytes} />
        </div>
      </div>
    </Card>
  );
}

interface TableProps {
  readonly id: string;
}

/** What a list shows of what there is. */
const noteOf = (list: List<unknown> | undefined) => (list === undefined ? undefined : list.partial ? m.restComes(list.items.length) : list.more ? m.shown(maxPods) : count(list.items.length));

function Namespaces({ id }: TableProps) {
  const { typed, sort, onSort } = useTableSearch();
  const namespaces = useNamespaces(id);
  return (
    <Section title={m.tabs.namespaces} note={namespaces.data ? count(namespaces.data.length) : undefined} right={<FilterInput typed={typed} what={m.tabs.namespaces.toLowerCase()} />}>
      <Loaded query={namespaces} what={m.tabs.namespaces} skeleton={<TableSkeleton rows={8} />}>
        {(list) => <NamespaceTable cluster={id} namespaces={list} filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

function Workloads({ id }: TableProps) {
  const { typed, sort, onSort } = useTableSearch();
  const workloads = useWorkloads(id, worstFirst(sort));
  return (
    <Section
      title={m.tabs.workloads}
      note={noteOf(workloads.data)}
      right={
        <>
          <FilterInput typed={typed} what={m.tabs.workloads.toLowerCase()} />
          <PinTable title={`${m.tabs.workloads}: ${id}`} of="workloads" object={{ cluster: id }} filter={typed.text} sort={sort} />
        </>
      }
    >
      <Loaded query={workloads} what={m.tabs.workloads} skeleton={<TableSkeleton rows={12} />}>
        {(list) => <WorkloadTable cluster={id} workloads={list.items} filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

function Nodes({ id }: TableProps) {
  const { typed, sort, onSort } = useTableSearch();
  const nodes = useNodes(id, worstFirst(sort));
  return (
    <Section
      title={m.tabs.nodes}
      note={noteOf(nodes.data)}
      right={
        <>
          <FilterInput typed={typed} what={m.tabs.nodes.toLowerCase()} />
          <PinTable title={`${m.tabs.nodes}: ${id}`} of="nodes" object={{ cluster: id }} filter={typed.text} sort={sort} />
        </>
      }
    >
      <Loaded query={nodes} what={m.tabs.nodes} skeleton={<TableSkeleton rows={12} />}>
        {(list) => <NodeTable cluster={id} nodes={list.items} filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

/** The server searches: a large cluster has more pods than a page should load. */
function Pods({ id }: TableProps) {
  const { typed, kept, sort, onSort } = useTableSearch();
  const pods = useWorstPods(id, kept, worstFirst(sort));
  return (
    <Section
      title={m.tabs.pods}
      note={noteOf(pods.data)}
      right={<FilterInput typed={typed} what={m.tabs.pods.toLowerCase()} />}
    >
      <Loaded query={pods} what={m.tabs.pods} skeleton={<TableSkeleton rows={12} />}>
        {(list) => <PodTable cluster={id} pods={list.items} of="cluster" filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

function Services({ id }: TableProps) {
  const { typed, sort, onSort } = useTableSearch();
  const services = useServices(id);
  return (
    <Section title={m.tabs.services} note={services.data ? count(services.data.length) : undefined} right={<FilterInput typed={typed} what={m.tabs.services.toLowerCase()} />}>
      <Loaded query={services} what={m.tabs.services} skeleton={<TableSkeleton rows={12} />}>
        {(list) => <ServiceTable cluster={id} services={list} filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}
