import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Pod } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { ContainerTable } from "@/parts/objects/ContainerTable";
import { LastEnds } from "@/parts/objects/LastEnd";
import { NamespaceLink, NodeLink, WorkloadLink } from "@/parts/objects/links";
import { podSentence, podState } from "@/parts/objects/model";
import { LackingCharts, ObjectCharts } from "@/parts/objects/ObjectCharts";
import { ObjectPage, Stack, useObjectSearch } from "@/parts/objects/ObjectPage";
import { usePod } from "@/parts/objects/podQueries";
import { useCluster } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { FactsSkeleton } from "@/ui/Feedback";
import { age, bytes, cores, count, percent } from "@/ui/format";
import { useNow } from "@/ui/now";

const route = getRouteApi("/clusters/$cluster/namespaces/$ns/pods/$pod");

const podGroups = { first: ["cpu_limit", "memory_limit", "network", "restarts", "cpu", "memory"], without: ["spec"] };
const byContainer = ["container"] as const;

export function PodPage() {
  const { cluster, ns, pod: name } = route.useParams();
  const [{ sort }, set] = useObjectSearch();
  const pod = usePod(cluster, ns, name);
  const owner = useCluster(cluster);
  const now = useNow();
  const p = pod.data;
  const place = useMemo(() => ({ cluster, namespace: ns, pod: name }), [cluster, ns, name]);
  return (
    <ObjectPage
      place={place}
      query={pod}
      name={name}
      kind={m.kindIn(m.kinds.pod ?? "", ns)}
      crumbs={[
        <NamespaceLink key="n" cluster={cluster} namespace={ns} />,
        ...(p && p.workload_type !== "pod" && p.workload !== ""
          ? [
              <WorkloadLink key="w" cluster={cluster} namespace={ns} type={p.workload_type} name={p.workload}>
                {p.workload_type}/{p.workload}
              </WorkloadLink>,
            ]
          : []),
      ]}
      state={p ? podState(p) : undefined}
      sentence={p ? podSentence(p, now) : undefined}
      facts={p ? <Summary cluster={cluster} pod={p} /> : pod.error ? null : <FactsSkeleton />}
      {...((p?.containers ?? []).length > 1 ? { origin: (row: Readonly<Record<string, string>>) => row.container ?? "" } : {})}
      summary={() => (
        <Stack>
          {p ? (
            <Section title={m.tabs.containers}>
              <ContainerTable cluster={cluster} pod={p} sort={sort} onSort={(s) => set({ sort: s })} />
            </Section>
          ) : null}
          {p ? <LastEnds cluster={cluster} pod={p} /> : null}
          <ChartGrid>
            <ObjectCharts cluster={owner.data} level="pod" choice={podGroups} place={place} />
          </ChartGrid>
          <Section title={m.byContainers}>
            <ChartGrid>
              <ObjectCharts cluster={owner.data} level="container" place={place} by={byContainer} titled={m.byContainer} />
            </ChartGrid>
          </Section>
          <LackingCharts cluster={owner.data} levels={["pod", "container"]} />
        </Stack>
      )}
    />
  );
}

function Summary({ cluster, pod: p }: { cluster: string; pod: Pod }) {
  const now = useNow();
  return (
    <Card>
      <Facts>
        <Fact label={m.facts.phase}>{p.phase}</Fact>
        <Fact label={m.facts.node}>{p.node ? <NodeLink cluster={cluster} node={p.node} /> : m.notScheduled}</Fact>
        <Fact label={m.facts.cpu}>
          {cores(p.cpu_cores)}
          {p.cpu_limit_percent === null ? "" : m.ofLimitValue(percent(p.cpu_limit_percent))}
        </Fact>
        <Fact label={m.facts.memory}>
          {bytes(p.mem_bytes)}
          {p.mem_limit_percent === null ? "" : m.ofLimitValue(percent(p.mem_limit_percent))}
        </Fact>
        <Fact label={m.facts.restarts}>{count(p.restarts)}</Fact>
        <Fact label={m.facts.network}>{p.host_network ? m.hostNetwork : p.ip || m.ownNetwork}</Fact>
        <Fact label={m.facts.age}>{age(p.created_at, now)}</Fact>
      </Facts>
    </Card>
  );
}
