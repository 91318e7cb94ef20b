import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { body, client, items } from "@/api/client";
import { keys } from "@/api/keys";
import type { components } from "@/api/schema";
import { useRefresh } from "@/parts/page";

type Schemas = components["schemas"];
export type Backtest = Schemas["Backtest"];
export type Why = Schemas["Why"];
export type FirstUse = Schemas["FirstUse"];

const over = (b: Backtest): boolean => b.state === "done" || b.state === "failed" || b.state === "cancelled";

/** A job of the server that is begun, watched and cancelled here. Whoever leaves the page gives it up. */
function useJob<T>(begin: (asked: T) => Promise<Backtest>) {
  const queries = useQueryClient();
  const [cancelled, setCancelled] = useState(false);
  const starting = useMutation({ mutationFn: begin, onMutate: () => setCancelled(false) });
  const first = starting.data;
  const id = first?.id;
  const watched = useQuery({
    queryKey: keys.backtest(id ?? ""),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/backtests/{id}", { params: { path: { id: id ?? "" } }, signal })),
    enabled: id !== undefined && !cancelled,
    refetchInterval: (q) => (q.state.data && over(q.state.data) ? false : 400),
    staleTime: Infinity,
  });
  const job = first && { ...(watched.data ?? first), ...(cancelled ? { state: "cancelled" as const } : {}) };
  const running = job && !over(job) ? job.id : undefined;
  const giveUp = useRef<string | undefined>(undefined);
  useEffect(() => {
    giveUp.current = running;
  }, [running]);
  useEffect(
    () => () => {
      if (giveUp.current !== undefined) void client.DELETE("/apis/crowsnest.dev/v1/backtests/{id}", { params: { path: { id: giveUp.current } } }).catch(() => undefined);
    },
    [],
  );
  return {
    job,
    start: starting.mutate,
    starting: starting.isPending,
    error: starting.error ?? watched.error,
    cancel: () => {
      if (id === undefined) return;
      setCancelled(true);
      void client.DELETE("/apis/crowsnest.dev/v1/backtests/{id}", { params: { path: { id } } }).catch(() => undefined);
      queries.removeQueries({ queryKey: keys.backtest(id) });
    },
  };
}

/** What a draft would have said over the past, and how that differs from another version. */
export const useBacktest = () => useJob((asked: Schemas["BacktestRequest"]) => body(client.POST("/apis/crowsnest.dev/v1/backtests", { body: asked })));

/** What presets would have said in the last seven days, on or not. */
export const useLookBack = () => useJob((asked: Schemas["LookBack"]) => body(client.POST("/apis/crowsnest.dev/v1/presets/lookback", { body: asked })));

export interface WhyQuestion {
  readonly policy: string;
  readonly cluster: string;
  readonly object: string;
  readonly dimensions: string;
  /** RFC 3339; empty is now. */
  readonly at: string;
}

export const useWhy = (q: WhyQuestion | undefined) =>
  useQuery({
    queryKey: keys.why(q?.policy ?? "", JSON.stringify(q)),
    queryFn: ({ signal }) =>
      body(
        client.GET("/apis/crowsnest.dev/v1/policies/{name}/why", {
          params: {
            path: { name: q?.policy ?? "" },
            query: { cluster: q?.cluster ?? "", ...(q?.object ? { object: q.object } : {}), ...(q?.dimensions ? { dimensions: q.dimensions } : {}), ...(q?.at ? { at: q.at } : {}) },
          },
          signal,
        }),
      ),
    enabled: q !== undefined,
    retry: false,
  });

export const usePresets = () =>
  useQuery({
    queryKey: keys.presets(),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/presets", { signal }))),
    refetchInterval: useRefresh(),
  });

export const useFirstUse = () =>
  useQuery({
    queryKey: keys.firstUse(),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/first-use", { signal })),
    refetchInterval: useRefresh(),
  });

/** The route for all that no other takes. */
export function useMakeDefaultRoute() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (target: string) =>
      body(client.POST("/apis/crowsnest.dev/v1/routes", { body: { apiVersion: "crowsnest.dev/v1", kind: "Route", metadata: { name: "default" }, spec: { default: true, targets: [{ name: target }] } } })),
    onSuccess: () => Promise.all([queries.invalidateQueries({ queryKey: keys.firstUse() }), queries.invalidateQueries({ queryKey: keys.routes() })]),
  });
}

/** Means over the incidents of some time, and which policies were the noisiest. */
export const useStatistics = (days: number, cluster?: string) =>
  useQuery({
    queryKey: keys.statistics(days, cluster ?? ""),
    queryFn: ({ signal }) =>
      body(
        client.GET("/apis/crowsnest.dev/v1/incident-statistics", {
          params: { query: { from: new Date(Date.now() - days * 86_400_000).toISOString(), ...(cluster === undefined ? {} : { cluster }) } },
          signal,
        }),
      ),
    staleTime: 60_000,
  });

/** Every version that a policy had, the newest first. */
export const useHistory = (name: string) =>
  useQuery({
    queryKey: keys.history(name),
    queryFn: async ({ signal }) => items(await body(client.GET("/apis/crowsnest.dev/v1/policies/{name}/history", { params: { path: { name } }, signal }))),
  });
