import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { components } from "@/api/schema";
import { useRefresh } from "@/parts/page";

export type Target = components["schemas"]["Target"];
export type Maintenance = components["schemas"]["Maintenance"];

export type DeliveryState = "pending" | "delivered" | "dead" | "superseded" | "skipped" | "all";

export const useDeliveries = (state: DeliveryState) =>
  useQuery({
    queryKey: keys.deliveries("", state),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/deliveries", { params: { query: { state, limit: 500 } }, signal }))),
    refetchInterval: useRefresh(),
  });

export const useSilences = () =>
  useQuery({
    queryKey: keys.silences(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/silences", { signal }))),
    refetchInterval: useRefresh(),
  });

export const useMaintenances = () =>
  useQuery({
    queryKey: keys.maintenances(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/maintenances", { signal }))),
    refetchInterval: useRefresh(),
  });

export function useTestTarget() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => body(client.POST("/apis/crowsnest.dev/v1/targets/{name}/test", { params: { path: { name } } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["deliveries"] }),
  });
}

export function useCreateWebhook() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ name, url }: { name: string; url: string }) =>
      body(client.POST("/apis/crowsnest.dev/v1/targets", { body: { apiVersion: "crowsnest.dev/v1", kind: "Target", metadata: { name }, spec: { type: "webhook", url } } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["targets"] }),
  });
}

export function useDeleteTarget() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => client.DELETE("/apis/crowsnest.dev/v1/targets/{name}", { params: { path: { name } } }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["targets"] }),
  });
}

export function useCreateSilence() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ name, matchers, until, comment }: { name: string; matchers: string[]; until: string; comment: string }) =>
      body(client.POST("/apis/crowsnest.dev/v1/silences", { body: { apiVersion: "crowsnest.dev/v1", kind: "Silence", metadata: { name }, spec: { matchers, until, ...(comment === "" ? {} : { comment }) } } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["silences"] }),
  });
}

export function useDeleteSilence() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => client.DELETE("/apis/crowsnest.dev/v1/silences/{name}", { params: { path: { name } } }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["silences"] }),
  });
}

export interface Window {
  readonly name: string;
  readonly matchers: string[];
  readonly rrule: string;
  readonly timezone: string;
  readonly duration: string;
  readonly starts: string;
  readonly comment: string;
}

const maintenance = (w: Window): Maintenance => ({
  apiVersion: "crowsnest.dev/v1",
  kind: "Maintenance",
  metadata: { name: w.name },
  spec: { matchers: w.matchers, rrule: w.rrule, timezone: w.timezone, duration: w.duration, ...(w.starts === "" ? {} : { starts: w.starts }), ...(w.comment === "" ? {} : { comment: w.comment }) },
});

/** When a window would be open, as the server reads it. */
export const usePreview = (w: Window, enabled: boolean) =>
  useQuery({
    queryKey: [...keys.maintenances(), "preview", w] as const,
    queryFn: ({ signal }) => body(client.POST("/apis/crowsnest.dev/v1/maintenances/preview", { body: maintenance(w), signal })),
    enabled,
    retry: false,
  });

export function useCreateMaintenance() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (w: Window) => body(client.POST("/apis/crowsnest.dev/v1/maintenances", { body: maintenance(w) })),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["maintenances"] }),
  });
}

export function useDeleteMaintenance() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => client.DELETE("/apis/crowsnest.dev/v1/maintenances/{name}", { params: { path: { name } } }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["maintenances"] }),
  });
}

export const useRoutes = () =>
  useQuery({
    queryKey: keys.routes(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/routes", { signal }))),
    refetchInterval: useRefresh(),
  });

/** A route changes who is told, and whether the first use has still to ask. */
function useRoutesChanged() {
  const queries = useQueryClient();
  return () => Promise.all([queries.invalidateQueries({ queryKey: keys.routes() }), queries.invalidateQueries({ queryKey: keys.firstUse() })]);
}

export function useCreateRoute() {
  const onSuccess = useRoutesChanged();
  return useMutation({
    mutationFn: ({ name, spec }: { name: string; spec: components["schemas"]["RouteSpec"] }) =>
      body(client.POST("/apis/crowsnest.dev/v1/routes", { body: { apiVersion: "crowsnest.dev/v1", kind: "Route", metadata: { name }, spec } })),
    onSuccess,
  });
}

export function useDeleteRoute() {
  const onSuccess = useRoutesChanged();
  return useMutation({
    mutationFn: (name: string) => client.DELETE("/apis/crowsnest.dev/v1/routes/{name}", { params: { path: { name } } }),
    onSuccess,
  });
}

export const useInhibitions = () =>
  useQuery({
    queryKey: keys.inhibitions(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/inhibitions", { signal }))),
    refetchInterval: useRefresh(),
  });

export function useCreateInhibition() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ name, spec }: { name: string; spec: components["schemas"]["InhibitionSpec"] }) =>
      body(client.POST("/apis/crowsnest.dev/v1/inhibitions", { body: { apiVersion: "crowsnest.dev/v1", kind: "Inhibition", metadata: { name }, spec } })),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.inhibitions() }),
  });
}

export function useDeleteInhibition() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (name: string) => client.DELETE("/apis/crowsnest.dev/v1/inhibitions/{name}", { params: { path: { name } } }),
    onSuccess: () => queries.invalidateQueries({ queryKey: keys.inhibitions() }),
  });
}
