import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { components } from "@/api/schema";
import { useRefresh } from "@/parts/page";

type Schemas = components["schemas"];
export type Target = Schemas["Target"];
export type Route = Schemas["Route"];
export type Inhibition = Schemas["Inhibition"];
export type Silence = Schemas["Silence"];
export type Maintenance = Schemas["Maintenance"];

export type DeliveryState = "pending" | "delivered" | "dead" | "superseded" | "skipped" | "all";

/** Deliveries page by page, searched by the server, the newest first. */
export const useDeliveries = (state: DeliveryState, filter = "", limit = 200) =>
  useInfiniteQuery({
    queryKey: keys.deliveries("", state, filter),
    queryFn: ({ pageParam, signal }) =>
      body(
        client.GET("/apis/crowsnest.dev/v1/deliveries", {
          params: { query: { state, limit, ...(filter === "" ? {} : { filter }), ...(pageParam === "" ? {} : { cursor: pageParam }) } },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
    placeholderData: keepPreviousData,
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

/** What all objects have that are kept by name and revision. */
export interface Stored {
  readonly apiVersion: "crowsnest.dev/v1";
  readonly kind: string;
  readonly metadata: Schemas["Metadata"];
  readonly spec: object;
}

/** How one kind of object is kept, and what else changes with it. */
export interface Store<T extends Stored> {
  readonly blank: (name: string, spec: T["spec"]) => T;
  readonly create: (object: T) => Promise<T>;
  /** Refused when the revision is no longer the newest; force takes over what somebody else owns. */
  readonly replace: (object: T, force: boolean) => Promise<T>;
  readonly remove: (name: string) => Promise<unknown>;
  readonly changes: readonly (readonly string[])[];
}

const apiVersion = "crowsnest.dev/v1";
const at = (object: Stored, force: boolean) => ({ path: { name: object.metadata.name }, query: { force } });
const named = (name: string) => ({ params: { path: { name } } });

export const targetStore: Store<Target> = {
  blank: (name, spec) => ({ apiVersion, kind: "Target", metadata: { name }, spec }),
  create: (o) => body(client.POST("/apis/crowsnest.dev/v1/targets", { body: o })),
  replace: (o, force) => body(client.PUT("/apis/crowsnest.dev/v1/targets/{name}", { params: at(o, force), body: o })),
  remove: (name) => client.DELETE("/apis/crowsnest.dev/v1/targets/{name}", named(name)),
  changes: [keys.targets(), keys.firstUse()],
};

// A route changes who is told, and whether the first use has still to ask.
export const routeStore: Store<Route> = {
  blank: (name, spec) => ({ apiVersion, kind: "Route", metadata: { name }, spec }),
  create: (o) => body(client.POST("/apis/crowsnest.dev/v1/routes", { body: o })),
  replace: (o, force) => body(client.PUT("/apis/crowsnest.dev/v1/routes/{name}", { params: at(o, force), body: o })),
  remove: (name) => client.DELETE("/apis/crowsnest.dev/v1/routes/{name}", named(name)),
  changes: [keys.routes(), keys.firstUse()],
};

export const inhibitionStore: Store<Inhibition> = {
  blank: (name, spec) => ({ apiVersion, kind: "Inhibition", metadata: { name }, spec }),
  create: (o) => body(client.POST("/apis/crowsnest.dev/v1/inhibitions", { body: o })),
  replace: (o, force) => body(client.PUT("/apis/crowsnest.dev/v1/inhibitions/{name}", { params: at(o, force), body: o })),
  remove: (name) => client.DELETE("/apis/crowsnest.dev/v1/inhibitions/{name}", named(name)),
  changes: [keys.inhibitions()],
};

export const silenceStore: Store<Silence> = {
  blank: (name, spec) => ({ apiVersion, kind: "Silence", metadata: { name }, spec }),
  create: (o) => body(client.POST("/apis/crowsnest.dev/v1/silences", { body: o })),
  replace: (o, force) => body(client.PUT("/apis/crowsnest.dev/v1/silences/{name}", { params: at(o, force), body: o })),
  remove: (name) => client.DELETE("/apis/crowsnest.dev/v1/silences/{name}", named(name)),
  changes: [keys.silences()],
};

export const maintenanceStore: Store<Maintenance> = {
  blank: (name, spec) => ({ apiVersion, kind: "Maintenance", metadata: { name }, spec }),
  create: (o) => body(client.POST("/apis/crowsnest.dev/v1/maintenances", { body: o })),
  replace: (o, force) => body(client.PUT("/apis/crowsnest.dev/v1/maintenances/{name}", { params: at(o, force), body: o })),
  remove: (name) => client.DELETE("/apis/crowsnest.dev/v1/maintenances/{name}", named(name)),
  changes: [keys.maintenances()],
};

function useChanged<T extends Stored>(store: Store<T>) {
  const queries = useQueryClient();
  return () => Promise.all(store.changes.map((queryKey) => queries.invalidateQueries({ queryKey })));
}

/** Makes an object that has no revision yet, and changes one that has. */
export function useStored<T extends Stored>(store: Store<T>) {
  const onSuccess = useChanged(store);
  return useMutation({ mutationFn: ({ object, force }: { object: T; force: boolean }) => (object.metadata.revision === undefined ? store.create(object) : store.replace(object, force)), onSuccess });
}

export function useDeleted<T extends Stored>(store: Store<T>) {
  const onSuccess = useChanged(store);
  return useMutation({ mutationFn: store.remove, onSuccess });
}

/** A new signing key, shown in the answer and never again; the one before signs too for a day. */
export function useRotate() {
  const onSuccess = useChanged(targetStore);
  return useMutation({ mutationFn: (name: string) => body(client.POST("/apis/crowsnest.dev/v1/targets/{name}/rotate", named(name))), onSuccess });
}

/** What a webhook of this shape would get of an example of an incident. */
export const useBodyPreview = (shape: Schemas["Shape"], enabled: boolean) =>
  useQuery({
    queryKey: [...keys.targets(), "preview", shape] as const,
    queryFn: ({ signal }) => body(client.POST("/apis/crowsnest.dev/v1/targets/preview", { body: shape, signal })),
    placeholderData: keepPreviousData,
    enabled,
    retry: false,
  });

/** When a window would be open, as the server reads it. */
export const usePreview = (spec: Maintenance["spec"], enabled: boolean) =>
  useQuery({
    queryKey: [...keys.maintenances(), "preview", spec] as const,
    queryFn: ({ signal }) => body(client.POST("/apis/crowsnest.dev/v1/maintenances/preview", { body: maintenanceStore.blank("preview", spec), signal })),
    enabled,
    retry: false,
  });

export const useRoutes = () =>
  useQuery({
    queryKey: keys.routes(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/routes", { signal }))),
    refetchInterval: useRefresh(),
  });

export const useInhibitions = () =>
  useQuery({
    queryKey: keys.inhibitions(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/inhibitions", { signal }))),
    refetchInterval: useRefresh(),
  });
