import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Service } from "@/api/types";
import { objects as m } from "@/i18n/objects";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { NamespaceLink, WorkloadLink } from "@/parts/objects/links";
import { serviceSentence, serviceState, shortPodName } from "@/parts/objects/model";
import { ObjectCharts } from "@/parts/objects/ObjectCharts";
import { FilterInput, ObjectPage, Stack, useTableSearch } from "@/parts/objects/ObjectPage";
import { PodTable } from "@/parts/objects/PodTable";
import { useCluster, usePods } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { FactsSkeleton, Loaded, TableSkeleton } from "@/ui/Feedback";
import { age, count } from "@/ui/format";
import { useNow } from "@/ui/now";
import { useService } from "./queries";

const route = getRouteApi("/clusters/$cluster/namespaces/$ns/services/$service");

export function ServicePage() {
  const { cluster, ns, service: name } = route.useParams();
  const service = useService(cluster, ns, name);
  const owner = useCluster(cluster);
  const place = useMemo(() => ({ cluster, namespace: ns, service: name }), [cluster, ns, name]);
  const s = service.data;
  return (
    <ObjectPage
      place={place}
      query={service}
      name={name}
      tab={m.tab(name, ns)}
      kind={m.kindIn(m.kinds.service ?? "", ns)}
      crumbs={[<NamespaceLink key="n" cluster={cluster} namespace={ns} />]}
      {...(s ? { behind: s.workloads } : {})}
      origin={(row) => shortPodName(row.pod ?? "", undefined)}
      state={s ? serviceState(s) : undefined}
      sentence={s ? serviceSentence(s) : undefined}
      facts={s ? <Summary cluster={cluster} service={s} /> : service.error ? null : <FactsSkeleton />}
      summary={() => (
        <Stack>
          <ChartGrid>
            <ObjectCharts cluster={owner.data} level="service" place={place} />
          </ChartGrid>
          <Pods cluster={cluster} ns={ns} service={name} />
        </Stack>
      )}
    />
  );
}

function Summary({ cluster, service: s }: { cluster: string; service: Service }) {
  const now = useNow();
  const selector = Object.entries(s.selector ?? {}).map(([k, v]) => `${k}=${v}`);
  return (
    <Card>
      <Facts>
        <Fact label={m.facts.type}>{s.type}</Fact>
        <Fact label={m.facts.address}>{s.cluster_ip === "None" ? m.headless : s.cluster_ip || m.unknown}</Fact>
        <Fact label={m.facts.pods}>{m.nReady(count(s.pods_ready), count(s.pods))}</Fact>
        <Fact label={m.facts.endpoints}>{m.endpointsValue(count(s.endpoints_ready), count(s.endpoints_not_ready))}</Fact>
        <Fact label={m.facts.selector}>{selector.join(", ") || m.noSelector}</Fact>
        <Fact label={m.facts.workloads}>
          {s.workloads.length === 0
            ? m.none
            : s.workloads.map((ref, i) => {
                const [type = "", workload = ""] = ref.split("/");
                return (
                  <span key={ref}>
                    {i > 0 ? ", " : ""}
                    <WorkloadLink cluster={cluster} namespace={s.namespace} type={type} name={workload}>
                      {ref}
                    </WorkloadLink>
                  </span>
                );
              })}
        </Fact>
        <Fact label={m.facts.age}>{age(s.created_at, now)}</Fact>
      </Facts>
    </Card>
  );
}

function Pods({ cluster, ns, service }: { cluster: string; ns: string; service: string }) {
  const { typed, sort, onSort } = useTableSearch();
  const pods = usePods(cluster, { namespace: ns, service });
  return (
    <Section title={m.tabs.pods} note={pods.data ? count(pods.data.length) : undefined} right={<FilterInput typed={typed} what={m.tabs.pods.toLowerCase()} />}>
      <Loaded query={pods} what={m.tabs.pods} skeleton={<TableSkeleton rows={3} />}>
        {(list) => <PodTable cluster={cluster} pods={list} of="service" filter={typed.search} sort={sort} onSort={onSort} />}
      </Loaded>
    </Section>
  );
}
