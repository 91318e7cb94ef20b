import { Skeleton, Tabs } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import type { Pod } from "@/api/types";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { EventView } from "@/parts/logs/EventView";
import { LogView } from "@/parts/logs/LogView";
import { ClusterLink, ClustersLink, NamespaceLink, NodeLink, WorkloadLink } from "@/parts/objects/links";
import { podSentence, podState, staleSince } from "@/parts/objects/model";
import { ObjectCharts } from "@/parts/objects/ObjectCharts";
import { ObjectGone } from "@/parts/objects/ObjectGone";
import { Page } from "@/parts/page";
import { useCluster } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { age, bytes, cores, count, percent } from "@/ui/format";
import { useNow } from "@/ui/now";
import { Containers } from "./Containers";
import { LastEnds } from "./LastEnd";
import classes from "./pod.module.css";
import { usePod } from "./queries";

const route = getRouteApi("/clusters/$cluster/namespaces/$ns/pods/$pod");

const podGroups = { first: ["cpu_limit", "memory_limit", "network", "restarts", "cpu", "memory"], without: ["spec"] };
const byContainer = ["container"] as const;

export function PodPage() {
  const { cluster, ns, pod: name } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const pod = usePod(cluster, ns, name);
  const owner = useCluster(cluster);
  const now = useNow();
  const p = pod.data;
  const labels = useMemo(() => ({ cluster, namespace: ns, pod: name }), [cluster, ns, name]);
  const set = (change: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false, replace: true });
  return (
    <Page
      crumbs={[
        <ClustersLink key="a" />,
        <ClusterLink key="c" cluster={cluster}>
          {owner.data?.name}
        </ClusterLink>,
        <NamespaceLink key="n" cluster={cluster} namespace={ns} />,
        ...(p && p.workload_type !== "pod" && p.workload !== ""
          ? [
              <WorkloadLink key="w" cluster={cluster} namespace={ns} type={p.workload_type} name={p.workload}>
                {p.workload_type}/{p.workload}
              </WorkloadLink>,
            ]
          : []),
      ]}
      title={name}
      kind={`pod in ${ns}`}
      state={p ? podState(p) : undefined}
      loading={!p && !pod.error}
      sentence={p ? podSentence(p, now) : undefined}
      staleSince={staleSince(owner.data)}
    >
      {pod.error && !p ? (
        <ObjectGone what={`The pod ${name}`} cluster={cluster} error={pod.error} onRetry={() => void pod.refetch()} />
      ) : null}
      {p ? <Summary cluster={cluster} pod={p} /> : pod.error ? null : <Skeleton height={70} radius={8} />}
      <Tabs value={search.tab ?? "charts"} onChange={(tab) => set({ tab: tab ?? undefined, q: undefined })} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="charts">Charts</Tabs.Tab>
          <Tabs.Tab value="logs">Logs</Tabs.Tab>
          <Tabs.Tab value="events">Events</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="charts" pt="md">
          <div className={classes.stack}>
            {p ? (
              <Section title="Containers">
                <Containers containers={p.containers} sort={search.sort} onSort={(sort) => set({ sort })} />
              </Section>
            ) : null}
            {p ? <LastEnds cluster={cluster} pod={p} /> : null}
            <Section title="Pod">
              <ChartGrid>
                <ObjectCharts cluster={owner.data} id={cluster} level="pod" choice={podGroups} object={labels} scope={labels} />
              </ChartGrid>
            </Section>
            <Section title="By container">
              <ChartGrid>
                <ObjectCharts cluster={owner.data} id={cluster} level="container" object={labels} by={byContainer} scope={labels} />
              </ChartGrid>
            </Section>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="logs" pt="md">
          <LogView
            cluster={cluster}
            scope={labels}
            what={`the logs of ${name}`}
            typed={search.q ?? ""}
            onTyped={(q) => set({ q: q === "" ? undefined : q })}
            wrap={search.wrap === "1"}
            onWrap={(wrap) => set({ wrap: wrap ? "1" : undefined })}
            live={search.live === "1"}
            onLive={(live) => set({ live: live ? "1" : undefined })}
            {...((p?.containers ?? []).length > 1 ? { origin: (row: Readonly<Record<string, string>>) => row.container ?? "" } : {})}
          />
        </Tabs.Panel>
        <Tabs.Panel value="events" pt="md">
          <EventView
            cluster={cluster}
            scope={{ cluster, namespace: ns, kind: "Pod", name }}
            typed={search.q ?? ""}
            onTyped={(q) => set({ q: q === "" ? undefined : q })}
            what={`the events of ${name}`}
            withObject={false}
          />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}

function Summary({ cluster, pod: p }: { cluster: string; pod: Pod }) {
  const now = useNow();
  return (
    <Card>
      <Facts>
        <Fact label="Phase">{p.phase}</Fact>
        <Fact label="Node">{p.node ? <NodeLink cluster={cluster} node={p.node} /> : "not scheduled"}</Fact>
        <Fact label="CPU">
          {cores(p.cpu_cores)}
          {p.cpu_limit_percent === null ? "" : ` · ${percent(p.cpu_limit_percent)} of limit`}
        </Fact>
        <Fact label="Memory">
          {bytes(p.mem_bytes)}
          {p.mem_limit_percent === null ? "" : ` · ${percent(p.mem_limit_percent)} of limit`}
        </Fact>
        <Fact label="Restarts">{count(p.restarts)}</Fact>
        <Fact label="Network">{p.host_network ? "the node's (hostNetwork)" : p.ip || "own"}</Fact>
        <Fact label="Age">{age(p.created_at, now)}</Fact>
      </Facts>
    </Card>
  );
}
