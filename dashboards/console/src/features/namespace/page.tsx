import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Namespace } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { namespaceSentence, namespaceState, shortPodName } from "@/parts/objects/model";
import { LackingCharts, ObjectCharts } from "@/parts/objects/ObjectCharts";
import { FilterInput, ObjectPage, Stack, useTableSearch } from "@/parts/objects/ObjectPage";
import { PinTable } from "@/parts/boards/PinButton";
import { PodTable } from "@/parts/objects/PodTable";
import { ServiceTable } from "@/parts/objects/ServiceTable";
import { WorkloadTable } from "@/parts/objects/WorkloadTable";
import { useCluster, usePods, useServices, useWorkloads } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { FactsSkeleton, Loaded, TableSkeleton } from "@/ui/Feedback";
import { age, bytes, cores, count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { StateCount } from "@/ui/state";
import { useNamespace } from "./queries";

const route = getRouteApi("/clusters/$cluster/namespaces/$ns");
const groups = { first: ["cpu", "memory", "network", "restarts", "pods"] };

export function NamespacePage() {
  const { cluster, ns } = route.useParams();
  const namespace = useNamespace(cluster, ns);
  const owner = useCluster(cluster);
  const place = useMemo(() => ({ cluster, namespace: ns }), [cluster, ns]);
  const n = namespace.data;
  return (
    <ObjectPage
      place={place}
      query={namespace}
      name={ns}
      kind={m.kinds.namespace ?? ""}
      state={n ? namespaceState(n) : undefined}
      sentence={n ? namespaceSentence(n) : undefined}
      facts={n ? <Summary namespace={n} /> : namespace.error ? null : <FactsSkeleton />}
      origin={(row) => shortPodName(row.pod ?? "", undefined)}
      summary={() => (
        <Stack>
          <ChartGrid>
            <ObjectCharts cluster={owner.data} level="namespace" choice={groups} place={place} first={4} />
          </ChartGrid>
          <Workloads cluster={cluster} ns={ns} />
          <Section title={m.moreCharts}>
            <ChartGrid>
              <ObjectCharts cluster={owner.data} level="namespace" choice={groups} place={place} after={4} />
            </ChartGrid>
          </Section>
          <LackingCharts cluster={owner.data} levels={["namespace"]} />
        </Stack>
      )}
      tabs={[
        { value: "pods", label: m.tabs.pods, panel: () => <Pods cluster={cluster} ns={ns} /> },
        { value: "services", label: m.tabs.services, panel: () => <Services cluster={cluster} ns={ns} /> },
      ]}
    />
  );
}

function Summary({ namespace: n }: { namespace: Namespace }) {
  const now = useNow();
  const pods = (n.pods.pending ?? 0) + (n.pods.running ?? 0) + (n.pods.unknown ?? 0);
  return (
    <Card>
      <Facts>
        <Fact label={m.facts.workloads}>
          <StateCount state="warning" n={n.workloads.abnormal}>
            {m.nUnhealthy(count(n.workloads.abnormal), count(n.workloads.total))}
          </StateCount>
        </Fact>
        <Fact label={m.facts.pods}>
          <StateCount state="warning" n={n.not_ready}>
            {m.nReady(count(pods - n.not_ready), count(pods))}
          </StateCount>
        </Fact>
        <Fact label={m.facts.services}>{count(n.services)}</Fact>
        <Fact label={m.facts.cpu}>{cores(n.cpu_cores)}</Fact>
        <Fact label={m.facts.memory}>{bytes(n.mem_bytes)}</Fact>
        <Fact label={m.facts.requests}>{m.coresAndBytes(cores(n.requests.cpu_cores), bytes(n.requests.memory_bytes))}</Fact>
        <Fact label={m.facts.restarts1h}>{count(n.restarts_1h)}</Fact>
        <Fact label={m.facts.age}>{age(n.created_at, now)}</Fact>
      </Facts>
    </Card>
  );
}

interface Props {
  readonly cluster: string;
  readonly ns: string;
}

function Workloads({ cluster, ns }: Props) {
  const { typed, sort, onSort } = useTableSearch();
  const workloads = useWorkloads(cluster, false, true, ns);
  return (
    <Section
      title={m.tabs.workloads}
      note={workloads.data ? count(workloads.data.items.length) : undefined}
      right={
        <>
          <FilterInput typed={typed} what={m.tabs.workloads.toLowerCase()} />
          <PinTable title={`${m.tabs.workloads}: ${ns}`} of="workloads" object={{ cluster, namespace: ns }} filter={typed.text} sort={sort} />
        </>
      }
    >
      <Loaded query={workloads} what={m.tabs.workloads} skeleton={<TableSkeleton />}>
        {(list) => <WorkloadTable cluster={cluster} workloads={list.items} inNamespace filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

function Pods({ cluster, ns }: Props) {
  const { typed, sort, onSort } = useTableSearch();
  const pods = usePods(cluster, { namespace: ns });
  return (
    <Section
      title={m.tabs.pods}
      note={pods.data ? count(pods.data.length) : undefined}
      right={
        <>
          <FilterInput typed={typed} what={m.tabs.pods.toLowerCase()} />
          <PinTable title={`${m.tabs.pods}: ${ns}`} of="pods" object={{ cluster, namespace: ns }} filter={typed.text} sort={sort} />
        </>
      }
    >
      <Loaded query={pods} what={m.tabs.pods} skeleton={<TableSkeleton />}>
        {(list) => <PodTable cluster={cluster} pods={list} of="namespace" filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

function Services({ cluster, ns }: Props) {
  const { typed, sort, onSort } = useTableSearch();
  const services = useServices(cluster, ns);
  return (
    <Section title={m.tabs.services} note={services.data ? count(services.data.length) : undefined} right={<FilterInput typed={typed} what={m.tabs.services.toLowerCase()} />}>
      <Loaded query={services} what={m.tabs.services} skeleton={<TableSkeleton />}>
        {(list) => <ServiceTable cluster={cluster} services={list} inNamespace filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

