import { Skeleton, Tabs, TextInput } from "@mantine/core";
import { IconFilter } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { useDeferredValue, useMemo } from "react";
import type { Cluster } from "@/api/types";
import { PinButton } from "@/parts/boards/PinButton";
import { ChartGrid, ChartSkeletons } from "@/parts/charts/ChartGrid";
import { ChartPanel } from "@/parts/charts/ChartPanel";
import { panels } from "@/parts/charts/model";
import { chartStep } from "@/parts/charts/queries";
import { IncidentTable } from "@/parts/incidents/IncidentTable";
import { ClustersLink } from "@/parts/objects/links";
import { lackingOf, staleSince } from "@/parts/objects/model";
import { NodeTable } from "@/parts/objects/NodeTable";
import { WorkloadTable } from "@/parts/objects/WorkloadTable";
import { Page, useRange } from "@/parts/page";
import { useCatalogue, useCluster, useIncidents, useNodes, useWorkloads } from "@/parts/queries";
import { UsageBar } from "@/ui/Bars";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { age, bytes, cores, count } from "@/ui/format";
import { Failure, Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateCount, stateOf } from "@/ui/state";
import classes from "./cluster.module.css";
import { Sources, Unavailable } from "./tables";

const route = getRouteApi("/clusters/$cluster");

export function ClusterPage() {
  const { cluster: id } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const cluster = useCluster(id);
  const c = cluster.data;
  const set = (change: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false, replace: true });
  const tab = search.tab ?? "summary";
  return (
    <Page
      crumbs={[<ClustersLink key="c" />]}
      title={c?.name ?? id}
      kind={c ? `${c.kind} cluster ${c.version}` : "cluster"}
      state={c ? stateOf(c.state) : undefined}
      loading={!c && !cluster.error}
      sentence={c?.sentence}
      staleSince={staleSince(c)}
    >
      {cluster.error && !c ? (
        <Failure what="The cluster" error={cluster.error} onRetry={() => void cluster.refetch()} />
      ) : (
        <>
          {c ? <Summary cluster={c} /> : <Skeleton height={92} radius={8} />}
          <Tabs value={tab} onChange={(t) => set({ tab: t ?? undefined, sort: undefined, filter: undefined })} keepMounted={false}>
            <Tabs.List>
              <Tabs.Tab value="summary">Charts</Tabs.Tab>
              <Tabs.Tab value="workloads">Workloads {c ? <span className={classes.n}>{count(c.workloads.total)}</span> : null}</Tabs.Tab>
              <Tabs.Tab value="nodes">Nodes {c ? <span className={classes.n}>{count(c.nodes.total)}</span> : null}</Tabs.Tab>
              <Tabs.Tab value="incidents">Incidents</Tabs.Tab>
              <Tabs.Tab value="sources">Data sources</Tabs.Tab>
            </Tabs.List>
            <Tabs.Panel value="summary" pt="md">
              <Charts id={id} cluster={c} />
            </Tabs.Panel>
            <Tabs.Panel value="workloads" pt="md">
              <Workloads id={id} filter={search.filter ?? ""} sort={search.sort} set={set} />
            </Tabs.Panel>
            <Tabs.Panel value="nodes" pt="md">
              <Nodes id={id} filter={search.filter ?? ""} sort={search.sort} set={set} />
            </Tabs.Panel>
            <Tabs.Panel value="incidents" pt="md">
              <Incidents id={id} sort={search.sort} set={set} />
            </Tabs.Panel>
            <Tabs.Panel value="sources" pt="md">
              {c ? (
                <div className={classes.stack}>
                  <Unavailable cluster={c} />
                  <Sources sources={c.sources } sort={search.sort} onSort={(sort) => set({ sort })} />
                </div>
              ) : (
                <TableSkeleton />
              )}
            </Tabs.Panel>
          </Tabs>
        </>
      )}
    </Page>
  );
}

function Summary({ cluster: c }: { cluster: Cluster }) {
  const now = useNow();
  return (
    <Card>
      <div className={classes.summary}>
        <Facts>
          <Fact label="Nodes">
            <StateCount state="critical" n={c.nodes.total - c.nodes.ready}>
              {count(c.nodes.ready)} of {count(c.nodes.total)} ready
            </StateCount>
          </Fact>
          <Fact label="Workloads">
            <StateCount state="warning" n={c.workloads.abnormal}>
              {count(c.workloads.abnormal)} of {count(c.workloads.total)} unhealthy
            </StateCount>
          </Fact>
          <Fact label="Pods">{count(Object.values(c.pods).reduce((a, b) => a + b, 0))}</Fact>
          <Fact label="Last data">{c.last_seen_at ? `${age(c.last_seen_at, now)} ago` : "none yet"}</Fact>
          <Fact label="Interval">{c.interval_seconds > 0 ? `${c.interval_seconds} s` : "unknown"}</Fact>
          <Fact label="Id">{c.id}</Fact>
        </Facts>
        <div className={classes.bars}>
          <UsageBar name="CPU" {...c.cpu} format={(v) => (v === null || v === undefined || v < 1 ? cores(v) : `${cores(v)} cores`)} />
          <UsageBar name="Memory" {...c.memory} format={bytes} />
        </div>
      </div>
    </Card>
  );
}

const choice = { first: ["cpu", "memory", "pods", "nodes"], without: ["capacity"] };

function Charts({ id, cluster }: { id: string; cluster: Cluster | undefined }) {
  const catalogue = useCatalogue();
  const range = useRange();
  const all = useMemo(() => panels(catalogue.data ?? [], "cluster", choice), [catalogue.data]);
  const lacking = useMemo(() => lackingOf(cluster), [cluster]);
  if (catalogue.error) return <Failure what="The catalogue of metrics" error={catalogue.error} onRetry={() => void catalogue.refetch()} />;
  if (!cluster || !catalogue.data) return (
      <ChartGrid>
        <ChartSkeletons n={4} />
      </ChartGrid>
    );
  const step = chartStep(range, cluster.interval_seconds);
  return (
    <ChartGrid>
      {all.map((p) => (
          <ChartPanel key={`${p.group} ${p.unit}`} cluster={id} panel={p} object={{ cluster: id }} stepSeconds={step} lacking={lacking} />
        ))}
    </ChartGrid>
  );
}

interface TableProps {
  readonly id: string;
  readonly sort: string | undefined;
  readonly set: (change: { filter?: string | undefined; sort?: string }) => void;
}

function Workloads({ id, filter, sort, set }: TableProps & { filter: string }) {
  const workloads = useWorkloads(id);
  const deferred = useDeferredValue(filter);
  return (
    <Section
      title="Workloads"
      note={workloads.data ? count(workloads.data.length) : undefined}
      right={
        <>
          <FilterInput value={filter} onChange={(f) => set({ filter: f })} label="filter workloads" />
          <PinButton panel={{ title: `Workloads of ${id}`, kind: "table", of: "workloads", object: { cluster: id }, ...(filter === "" ? {} : { filter }), ...(sort === undefined ? {} : { sort }) }} />
        </>
      }
    >
      <Loaded query={workloads} what="Workloads" skeleton={<TableSkeleton rows={12} />}>
        {(list) => <WorkloadTable cluster={id} workloads={list} filter={deferred} sort={sort} onSort={(s) => set({ sort: s })} />}
      </Loaded>
    </Section>
  );
}

function Nodes({ id, filter, sort, set }: TableProps & { filter: string }) {
  const nodes = useNodes(id);
  const deferred = useDeferredValue(filter);
  return (
    <Section
      title="Nodes"
      note={nodes.data ? count(nodes.data.length) : undefined}
      right={
        <>
          <FilterInput value={filter} onChange={(f) => set({ filter: f })} label="filter nodes" />
          <PinButton panel={{ title: `Nodes of ${id}`, kind: "table", of: "nodes", object: { cluster: id }, ...(filter === "" ? {} : { filter }), ...(sort === undefined ? {} : { sort }) }} />
        </>
      }
    >
      <Loaded query={nodes} what="Nodes" skeleton={<TableSkeleton rows={12} />}>
        {(list) => <NodeTable cluster={id} nodes={list} filter={deferred} sort={sort} onSort={(s) => set({ sort: s })} />}
      </Loaded>
    </Section>
  );
}

function Incidents({ id, sort, set }: TableProps) {
  const incidents = useIncidents("all", id);
  return (
    <Section title="Incidents" note="active and past">
      <Loaded query={incidents} what="Incidents" skeleton={<TableSkeleton rows={4} />}>
        {(list) => <IncidentTable incidents={list} sort={sort} onSort={(s) => set({ sort: s })} empty="This cluster has had no incident." />}
      </Loaded>
    </Section>
  );
}

function FilterInput({ value, onChange, label }: { value: string; onChange: (v: string | undefined) => void; label: string }) {
  return (
    <TextInput
      size="xs"
      w="min(260px, 42vw)"
      aria-label={label}
      placeholder="Filter: any words"
      leftSection={<IconFilter size={14} />}
      value={value}
      onChange={(e) => onChange(e.currentTarget.value === "" ? undefined : e.currentTarget.value)}
    />
  );
}
