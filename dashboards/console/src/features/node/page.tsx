import { Skeleton, Tabs } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { PinButton } from "@/parts/boards/PinButton";
import { ChartGrid } from "@/parts/charts/ChartGrid";
import { EventView } from "@/parts/logs/EventView";
import { ClusterLink, ClustersLink } from "@/parts/objects/links";
import { nodeSentence, nodeState, staleSince } from "@/parts/objects/model";
import { ObjectCharts } from "@/parts/objects/ObjectCharts";
import { ObjectGone } from "@/parts/objects/ObjectGone";
import { PodTable } from "@/parts/objects/PodTable";
import { Page } from "@/parts/page";
import { useCluster, usePods } from "@/parts/queries";
import { Card, Fact, Facts, Section } from "@/ui/Bits";
import { age, bytes, cores, count } from "@/ui/format";
import { Loaded, TableSkeleton } from "@/ui/Feedback";
import { useNow } from "@/ui/now";
import { StateLabel } from "@/ui/state";
import classes from "./node.module.css";
import { useNode } from "./queries";

const route = getRouteApi("/clusters/$cluster/nodes/$node");

const nodeGroups = { first: ["cpu", "memory", "filesystem", "network", "restarts", "ready"] };

export function NodePage() {
  const { cluster, node: name } = route.useParams();
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const node = useNode(cluster, name);
  const owner = useCluster(cluster);
  const pods = usePods(cluster, { node: name });
  const now = useNow();
  const n = node.data;
  const set = (change: Partial<typeof search>) =>
    void navigate({ search: (old) => ({ ...old, ...change }), resetScroll: false, replace: true });
  return (
    <Page
      crumbs={[<ClustersLink key="a" />, <ClusterLink key="c" cluster={cluster}>{owner.data?.name}</ClusterLink>]}
      title={name}
      kind="node"
      state={n ? nodeState(n) : undefined}
      loading={!n && !node.error}
      sentence={n ? nodeSentence(n, now) : undefined}
      staleSince={staleSince(owner.data)}
    >
      {node.error && !n ? (
        <ObjectGone what={`The node ${name}`} cluster={cluster} error={node.error} onRetry={() => void node.refetch()} />
      ) : null}
      {n ? (
        <Card>
          <Facts>
            <Fact label="Allocatable">
              {cores(n.allocatable.cpu_cores)} cores · {bytes(n.allocatable.memory_bytes)}
            </Fact>
            <Fact label="Pods">{count(n.pods)}</Fact>
            <Fact label="Restarts in 1 h">{count(n.restarts_1h)}</Fact>
            <Fact label="Roles">{n.roles.join(", ") || "none"}</Fact>
            <Fact label="Kubelet">{n.kubelet_version || "unknown"}</Fact>
            <Fact label="Runtime">{n.container_runtime || "unknown"}</Fact>
            <Fact label="System">{n.os_image || "unknown"}</Fact>
            <Fact label="Address">{n.internal_ip || "unknown"}</Fact>
            <Fact label="Age">{age(n.created_at, now)}</Fact>
            {n.conditions
              .filter((c) => (c.type === "Ready") !== (c.status === "True"))
              .map((c) => (
                <Fact key={c.type} label={c.type}>
                  <StateLabel state={c.type === "Ready" ? "critical" : "warning"}>
                    {c.reason || c.status}, {age(c.since, now)}
                  </StateLabel>
                </Fact>
              ))}
          </Facts>
        </Card>
      ) : node.error ? null : (
        <Skeleton height={70} radius={8} />
      )}
      <Tabs value={search.tab ?? "charts"} onChange={(tab) => set({ tab: tab ?? undefined, q: undefined })} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="charts">Charts and pods</Tabs.Tab>
          <Tabs.Tab value="events">Events</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="charts" pt="md">
          <div className={classes.stack}>
          <ChartGrid>
            <ObjectCharts cluster={owner.data} id={cluster} level="node" choice={nodeGroups} object={{ cluster, node: name }} scope={{ cluster, node: name }} />
          </ChartGrid>
          <Section title="Pods" note={pods.data ? count(pods.data.length) : undefined} right={<PinButton panel={{ title: `Pods on ${name}`.slice(0, 120), kind: "table", of: "pods", object: { cluster, node: name }, ...(search.sort === undefined ? {} : { sort: search.sort }) }} />}>
            <Loaded query={pods} what="Pods" skeleton={<TableSkeleton />}>
              {(list) => <PodTable cluster={cluster} pods={list} of="node" sort={search.sort} onSort={(sort) => set({ sort })} />}
            </Loaded>
          </Section>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="events" pt="md">
          <EventView
            cluster={cluster}
            scope={{ cluster, kind: "Node", name }}
            typed={search.q ?? ""}
            onTyped={(q) => set({ q: q === "" ? undefined : q })}
            what={`the events of node ${name}`}
            withObject={false}
          />
        </Tabs.Panel>
      </Tabs>
    </Page>
  );
}
