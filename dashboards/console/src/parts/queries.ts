import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { body, client, items } from "@/api/client";
import { type ClusterId, everyCluster, keys, type PodFilter } from "@/api/keys";
import { useRefresh } from "./page";

// One hook an endpoint, for what more than one feature shows.

export const useCatalogue = () =>
  useQuery({
    queryKey: keys.catalogue(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/catalogue", { signal }))),
    // It changes with the server's version only.
    staleTime: Infinity,
  });

export const useClusters = (every?: number) => {
  const refresh = useRefresh();
  const refetchInterval = every ?? refresh;
  return useQuery({
    queryKey: keys.clusters(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/clusters", { signal }))),
    // With no cluster yet someone waits for the first one to come alive.
    refetchInterval: (q) => (q.state.data?.length === 0 ? 3000 : refetchInterval),
  });
};

export const useCluster = (cluster: ClusterId) =>
  useQuery({
    queryKey: keys.cluster(cluster),
    queryFn: ({ signal }) =>
      body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}", { params: { path: { cluster } }, signal })),
    refetchInterval: useRefresh(),
    placeholderData: keepPreviousData,
  });

export const useNodes = (cluster: ClusterId, enabled = true) =>
  useQuery({
    queryKey: keys.nodes(cluster),
    queryFn: async ({ signal }) =>
      items(await body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/nodes", { params: { path: { cluster } }, signal }))),
    refetchInterval: useRefresh(),
    enabled,
  });

export const useWorkloads = (cluster: ClusterId, enabled = true) =>
  useQuery({
    queryKey: keys.workloads(cluster),
    queryFn: async ({ signal }) =>
      items(
        await body(
          client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/workloads", { params: { path: { cluster } }, signal }),
        ),
      ),
    refetchInterval: useRefresh(),
    enabled,
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
