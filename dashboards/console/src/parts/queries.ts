import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, client, items } from "@/api/client";
import { type ClusterId, everyCluster, keys, type PodFilter } from "@/api/keys";
import type { Metric } from "@/api/types";
import { server as m } from "@/i18n/server";
import type { Place } from "./objects/place";
import { useRefresh } from "./page";
import { useWorstFirst } from "./worstFirst";

// One hook an endpoint, for what more than one feature shows.

/** A metric as readers of this language know it. Metrics that users add keep their own words. */
const told = (metric: Metric): Metric => ({ ...metric, title: m.title(metric.title), help: m.help(metric.help), ...(metric.absent ? { absent: m.why(metric.absent) } : {}) });

const spoken = <T extends { readonly sentence: string }>(cluster: T): T => ({ ...cluster, sentence: m.sentence(cluster.sentence) });

export const useCatalogue = () =>
  useQuery({
    queryKey: keys.catalogue(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/catalogue", { signal }))).map(told),
    // It changes with the server's version, and with the metrics that users make, which is rare.
    staleTime: 600_000,
  });

/** Whether these metrics are as known as they can be: for those that the catalogue lacks it is read again, once, since somebody may have made them meanwhile. */
export function useSought(names: readonly string[]): boolean {
  const queries = useQueryClient();
  const { data } = useCatalogue();
  const unknown = data ? names.filter((name) => name !== "" && !data.some((metric) => metric.name === name)) : [];
  const again = useQuery({
    queryKey: keys.soughtMetrics(unknown),
    queryFn: async () => {
      await queries.refetchQueries({ queryKey: keys.catalogue() });
      return true;
    },
    enabled: unknown.length > 0,
    staleTime: Infinity,
  });
  return data !== undefined && (unknown.length === 0 || again.isFetched);
}

export const useClusters = (every?: number) => {
  const refresh = useRefresh();
  const refetchInterval = every ?? refresh;
  return useQuery({
    queryKey: keys.clusters(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/clusters", { signal }))).map(spoken),
    // With no cluster yet someone waits for the first one to come alive.
    refetchInterval: (q) => (q.state.data?.length === 0 ? 3000 : refetchInterval),
  });
};

export const useCluster = (cluster: ClusterId) =>
  useQuery({
    queryKey: keys.cluster(cluster),
    queryFn: async ({ signal }) => {
      const answer = await body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}", { params: { path: { cluster } }, signal }));
      return { ...spoken(answer), unavailable: answer.unavailable.map((u) => ({ ...u, reason: m.why(u.reason) })) };
    },
    refetchInterval: useRefresh(),
    placeholderData: keepPreviousData,
  });

/** `first`: what is worst is looked at first. */
export const useNodes = (cluster: ClusterId, first: boolean, enabled = true) =>
  useWorstFirst({
    key: keys.nodes(cluster),
    ask: (limit, signal) => body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/nodes", { params: { path: { cluster }, query: { limit } }, signal })),
    enabled,
    first,
  });

/** Those of a namespace, or of the whole cluster. */
export const useWorkloads = (cluster: ClusterId, first: boolean, enabled = true, namespace?: string) =>
  useWorstFirst({
    key: keys.workloads(cluster, namespace),
    ask: (limit, signal) =>
      body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/workloads", { params: { path: { cluster }, query: { limit, ...(namespace === undefined ? {} : { namespace }) } }, signal })),
    enabled,
    first,
  });

export const useNamespaces = (cluster: ClusterId) =>
  useQuery({
    queryKey: keys.namespaces(cluster),
    queryFn: async ({ signal }) =>
      items(await body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/namespaces", { params: { path: { cluster } }, signal }))),
    refetchInterval: useRefresh(),
  });

/** Those of a namespace, or of the whole cluster. */
export const useServices = (cluster: ClusterId, namespace?: string) =>
  useQuery({
    queryKey: keys.services(cluster, namespace ?? ""),
    queryFn: async ({ signal }) =>
      items(
        await body(
          client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/services", {
            params: { path: { cluster }, query: namespace === undefined ? {} : { namespace } },
            signal,
          }),
        ),
      ),
    refetchInterval: useRefresh(),
  });

/** The enabled policies that look at an object, or at some inside it. */
export const useWatching = (cluster: ClusterId, place: Place) =>
  useQuery({
    queryKey: keys.watching(cluster, place),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/watching-policies", { params: { query: { ...place, cluster } }, signal }))),
    refetchInterval: useRefresh(),
    placeholderData: keepPreviousData,
  });

export const usePods = (cluster: ClusterId, filter: PodFilter, enabled = true) =>
  useQuery({
    queryKey: keys.pods(cluster, filter),
    queryFn: async ({ signal }) =>
      items(
        await body(
          client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/pods", {
            params: { path: { cluster }, query: filter },
            signal,
          }),
        ),
      ),
    refetchInterval: useRefresh(),
    enabled,
  });

export const useIncidents = (state: "active" | "resolved" | "all", cluster?: ClusterId) =>
  useQuery({
    queryKey: keys.incidents(cluster ?? everyCluster, state),
    queryFn: async ({ signal }) =>
      items(
        await body(
          client.GET("/apis/crowsnest.dev/v1/incidents", {
            params: { query: { state, ...(cluster === undefined ? {} : { cluster }) } },
            signal,
          }),
        ),
      ),
    refetchInterval: useRefresh(),
  });

export const usePolicies = () =>
  useQuery({
    queryKey: keys.policies(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/policies", { signal }))),
    refetchInterval: useRefresh(),
  });

export const useTargets = () =>
  useQuery({
    queryKey: keys.targets(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/targets", { signal }))),
    refetchInterval: useRefresh(),
  });

/** Alerts of a policy, or of all. */
export const useAlerts = (state: "firing" | "ended" | "all", policy?: string, cluster?: ClusterId) =>
  useQuery({
    queryKey: keys.alerts(cluster ?? everyCluster, state, policy ?? ""),
    queryFn: async ({ signal }) =>
      items(
        await body(
          client.GET("/apis/crowsnest.dev/v1/alerts", {
            params: { query: { state, ...(policy === undefined ? {} : { policy }), ...(cluster === undefined ? {} : { cluster }) } },
            signal,
          }),
        ),
      ),
    refetchInterval: useRefresh(),
  });
