import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Pod, Workload } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { LastEnds } from "@/parts/objects/LastEnd";
import { NamespaceLink } from "@/parts/objects/links";
import { shortPodName, workloadSentence, workloadState } from "@/parts/objects/model";
import { LackingCharts, ObjectCharts } from "@/parts/objects/ObjectCharts";
import { FilterInput, ObjectPage, Stack, useTableSearch } from "@/parts/objects/ObjectPage";
import { PinTable } from "@/parts/boards/PinButton";
import { PodTable } from "@/parts/objects/PodTable";
import { useCluster, usePods } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { FactsSkeleton, Loaded, TableSkeleton } from "@/ui/Feedback";
import { age, bytes, cores, count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { useWorkload } from "./queries";

const route = getRouteApi("/clusters/$cluster/namespaces/$ns/workloads/$type/$name");

// Of limits each pod has its own, so that they are drawn by pod.
const podGroups = { only: ["cpu_limit", "memory_limit"] };
const workloadGroups = { first: ["network", "restarts", "cpu", "memory"] };
const byPod = ["pod"] as const;

export function WorkloadPage() {
  const { cluster, ns, type, name } = route.useParams();
  const workload = useWorkload(cluster, ns, type, name);
  const owner = useCluster(cluster);
  const pods = usePods(cluster, { namespace: ns, workload_type: type, workload: name });
  const w = workload.data;
  const place = useMemo(() => ({ cluster, namespace: ns, workload_type: type, workload: name }), [cluster, ns, type, name]);
  return (
    <ObjectPage
      place={place}
      query={workload}
      name={name}
      tab={m.tab(name, ns)}
      kind={m.kindIn(type, ns)}
      crumbs={[<NamespaceLink key="n" cluster={cluster} namespace={ns} />]}
      state={w ? workloadState(w) : undefined}
      sentence={w ? workloadSentence(w, pods.data) : undefined}
      facts={w ? <Summary workload={w} /> : workload.error ? null : <FactsSkeleton />}
      origin={(row) => shortPodName(row.pod ?? "", name)}
      summary={() => (
        <Stack>
          <ChartGrid>
            <ObjectCharts cluster={owner.data} level="pod" choice={podGroups} by={byPod} place={place} titled={m.byPod} />
            <ObjectCharts cluster={owner.data} level="workload" choice={workloadGroups} place={place} first={2} />
          </ChartGrid>
          <Pods place={place} query={pods} />
          <WorstEnd cluster={cluster} pods={pods.data ?? []} />
          <Section title={m.moreCharts}>
            <ChartGrid>
              <ObjectCharts cluster={owner.data} level="workload" choice={workloadGroups} place={place} after={2} />
            </ChartGrid>
          </Section>
          <LackingCharts cluster={owner.data} levels={["workload"]} />
        </Stack>
      )}
    />
  );
}

function Pods({ place, query }: { place: { readonly cluster: string; readonly namespace: string; readonly workload_type: string; readonly workload: string }; query: ReturnType<typeof usePods> }) {
  const { typed, sort, onSort } = useTableSearch();
  return (
    <Section
      title={m.tabs.pods}
      note={query.data ? count(query.data.length) : undefined}
      right={
        <>
          <FilterInput typed={typed} what={m.tabs.pods.toLowerCase()} />
          <PinTable title={`${m.tabs.pods}: ${place.workload}`} of="pods" object={place} filter={typed.text} sort={sort} />
        </>
      }
    >
      <Loaded query={query} what={m.tabs.pods} skeleton={<TableSkeleton rows={3} />}>
        {(list) => <PodTable cluster={place.cluster} pods={list} of="workload" filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}

/** How the pod that restarted most often ended last: what a reader of a restarting workload looks for. */
function WorstEnd({ cluster, pods }: { cluster: string; pods: readonly Pod[] }) {
  const worst = pods.reduce<Pod | undefined>((a, b) => (b.restarts > (a?.restarts ?? 0) && b.containers.some((c) => c.last) ? b : a), undefined);
  return worst ? <LastEnds cluster={cluster} pod={worst} /> : null;
}

function Summary({ workload: w }: { workload: Workload }) {
  const now = useNow();
  return (
    <Card>
      <Facts>
        <Fact label={m.facts.ready}>{m.ofDesired(count(w.ready), count(w.desired))}</Fact>
        <Fact label={m.facts.cpu}>{cores(w.cpu_cores)}</Fact>
        <Fact label={m.facts.memory}>{bytes(w.mem_bytes)}</Fact>
        <Fact label={m.facts.restarts1h}>{count(w.restarts_1h)}</Fact>
        <Fact label={m.facts.age}>{age(w.created_at, now)}</Fact>
        <Fact label={w.images.length === 1 ? m.facts.image : m.facts.images}>{w.images.join(", ") || m.unknown}</Fact>
      </Facts>
    </Card>
  );
}
