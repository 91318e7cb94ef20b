import { Skeleton, Tabs } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import { IncidentTable } from "@/parts/incidents/IncidentTable";
import { ofWorkload } from "@/parts/incidents/model";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { EventView } from "@/parts/logs/EventView";
import { LogView } from "@/parts/logs/LogView";
import { ClusterLink, ClustersLink, NamespaceLink } from "@/parts/objects/links";
import { shortPodName, staleSince, workloadSentence, workloadState } from "@/parts/objects/model";
import { ObjectCharts } from "@/parts/objects/ObjectCharts";
import { ObjectGone } from "@/parts/objects/ObjectGone";
import { PodTable } from "@/parts/objects/PodTable";
import { Page } from "@/parts/page";
import { useCluster, useIncidents, usePods } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { age, bytes, cores, count } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { useWorkload } from "./queries";
import classes from "./workload.module.css";

const route = getRouteApi("/clusters/$cluster/namespaces/$ns/workloads/$type/$name");

// Of limits each pod has its own, so that they are drawn by pod.
const podGroups = { only: ["cpu_limit", "memory_limit"] };
const workloadGroups = { first: ["network", "restarts", "cpu", "memory"] };
const byPod = ["pod"] as const;

export function WorkloadPage() {
  const { cluster, ns, type, name } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const workload = useWorkload(cluster, ns, type, name);
  const owner = useCluster(cluster);
  const pods = usePods(cluster, { namespace: ns, workload_type: type, workload: name });
  const incidents = useIncidents("all", cluster);
  const now = useNow();
  const w = workload.data;
  const labels = useMemo(() => ({ cluster, namespace: ns, workload_type: type, workload: name }), [cluster, ns, type, name]);
  const mine = useMemo(() => ofWorkload(incidents.data ?? [], ns, type, name), [incidents.data, ns, type, name]);
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
      ]}
      title={name}
      tab={`${name} in ${ns}`}
      kind={`${type} in ${ns}`}
      state={w ? workloadState(w) : undefined}
      loading={!w && !workload.error}
      sentence={w ? workloadSentence(w, pods.data) : undefined}
      staleSince={staleSince(owner.data)}
    >
      {workload.error && !w ? (
        <ObjectGone what={`${type}/${name}`} cluster={cluster} error={workload.error} onRetry={() => void workload.refetch()} />
      ) : null}
      {w ? (
        <Card>
          <Facts>
            <Fact label="Ready">
              {count(w.ready)} of {count(w.desired)}
            </Fact>
            <Fact label="CPU">{cores(w.cpu_cores)}</Fact>
            <Fact label="Memory">{bytes(w.mem_bytes)}</Fact>
            <Fact label="Restarts in 1 h">{count(w.restarts_1h)}</Fact>
            <Fact label="Age">{age(w.created_at, now)}</Fact>
            <Fact label={w.images.length === 1 ? "Image" : "Images"}>{w.images.join(", ") || "unknown"}</Fact>
          </Facts>
        </Card>
      ) : workload.error ? null : (
        <Skeleton height={70} radius={8} />
      )}
      <Tabs value={search.tab ?? "charts"} onChange={(tab) => set({ tab: tab ?? undefined, q: undefined, sort: undefined })} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="charts">Charts and pods</Tabs.Tab>
          <Tabs.Tab value="logs">Logs</Tabs.Tab>
          <Tabs.Tab value="events">Events</Tabs.Tab>
          <Tabs.Tab value="incidents">Incidents{mine.length > 0 ? ` ${mine.length}` : ""}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="charts" pt="md">
          <div className={classes.stack}>
          <ChartGrid>
            <ObjectCharts cluster={owner.data} id={cluster} level="pod" choice={podGroups} by={byPod} object={labels} scope={labels} suffix=", by pod" />
            <ObjectCharts cluster={owner.data} id={cluster} level="workload" choice={workloadGroups} object={labels} scope={labels} />
          </ChartGrid>
          <Section title="Pods" note={pods.data ? count(pods.data.length) : undefined}>
            <Loaded query={pods} what="Pods" skeleton={<TableSkeleton rows={3} />}>
              {(list) => <PodTable cluster={cluster} pods={list} of="workload" sort={search.sort} onSort={(sort) => set({ sort })} />}
            </Loaded>
          </Section>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="logs" pt="md">
          <LogView
            cluster={cluster}
            scope={labels}
            what={`the logs of ${type}/${name}`}
            typed={search.q ?? ""}
            onTyped={(q) => set({ q: q === "" ? undefined : q })}
            wrap={search.wrap === "1"}
            onWrap={(wrap) => set({ wrap: wrap ? "1" : undefined })}
            live={search.live === "1"}
            onLive={(live) => set({ live: live ? "1" : undefined })}
            origin={(row) => shortPodName(row.pod ?? "", name)}
          />
        </Tabs.Panel>
        <Tabs.Panel value="events" pt="md">
          <EventView
            cluster={cluster}
            scope={{ cluster, namespace: ns }}
            // An event names the pod or the ReplicaSet: both begin with the workload's name.
            fixed={`name:="${name}" or name:~"^${escapeRegExp(name)}-"`}
            typed={search.q ?? ""}
            onTyped={(q) => set({ q: q === "" ? undefined : q })}
            what={`the events of ${type}/${name} and of its pods`}
            withObject
          />
        </Tabs.Panel>
        <Tabs.Panel value="incidents" pt="md">
          <Section title="Incidents" note="active and past">
            <Loaded query={incidents} what="Incidents" skeleton={<TableSkeleton rows={3} />}>
              {() => <IncidentTable incidents={mine} sort={search.sort} onSort={(sort) => set({ sort })} empty="This workload has had no incident." />}
            </Loaded>
          </Section>
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}

const escapeRegExp = (s: string): string => s.replace(/[.*+?^${}()|[\]\\]/g, "\\\\$&");
