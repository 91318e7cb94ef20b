import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { type ClusterId, keys } from "@/api/keys";
import { queryLogs } from "@/api/logsql";
import { queryRange } from "@/api/prometheus";
import type { Incident } from "@/api/types";
import { silenceMatchers, silenceName } from "@/parts/incidents/actions";
import { useRange, useRefresh } from "@/parts/page";
import { alignRange, isLive, resolveRange } from "@/ui/time";
import { counted } from "./model";

export const useIncident = (id: string) =>
  useQuery({
    queryKey: keys.incident(id),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/incidents/{id}", { params: { path: { id } }, signal })),
    refetchInterval: useRefresh(),
  });

/** What an expression gave over the page's range. */
export function useExpression(cluster: ClusterId, promql: string, stepSeconds: number) {
  const range = useRange();
  const refresh = useRefresh();
  return useQuery({
    queryKey: keys.range(cluster, promql, range.from, range.to, stepSeconds),
    queryFn: ({ signal }) => {
      const { start, end } = alignRange(resolveRange(range, nowSeconds()), stepSeconds);
      return queryRange(promql, start, end, stepSeconds, signal);
    },
    refetchInterval: isLive(range) ? refresh : false,
    placeholderData: keepPreviousData,
    retry: false,
  });
}

/** How many lines or events a query counts in each step of the page's range. */
export function useCounts(cluster: ClusterId, query: string, stepSeconds: number, enabled: boolean) {
  const range = useRange();
  const refresh = useRefresh();
  return useQuery({
    queryKey: keys.hits(cluster, query, range.from, range.to, ""),
    queryFn: async ({ signal }) => {
      const resolved = resolveRange(range, nowSeconds());
      const { start } = alignRange(resolved, stepSeconds);
      const end = Math.ceil(resolved.end / stepSeconds) * stepSeconds;
      return counted(await queryLogs(query, start, end, Math.round((end - start) / stepSeconds) + 1, signal), start, end, stepSeconds);
    },
    refetchInterval: isLive(range) ? refresh : false,
    placeholderData: keepPreviousData,
    retry: false,
    enabled,
  });
}

const nowSeconds = () => Math.floor(Date.now() / 1000);

export const states = ["active", "acknowledged", "resolved", "all"] as const;
export type IncidentState = (typeof states)[number];

export interface Asked {
  readonly state: IncidentState;
  readonly severity?: "critical" | "warning" | "info" | undefined;
  readonly cluster?: string | undefined;
  readonly policy?: string | undefined;
  readonly text?: string | undefined;
}

/** Incidents page by page, searched by the server, the newest first. */
export const useIncidentSearch = (asked: Asked, limit = 200) =>
  useInfiniteQuery({
    queryKey: keys.search(JSON.stringify([asked, limit])),
    queryFn: ({ pageParam, signal }) =>
      body(
        client.GET("/apis/crowsnest.dev/v1/incident-search", {
          params: {
            query: {
              state: asked.state,
              limit,
              ...(asked.severity === undefined ? {} : { severity: asked.severity }),
              ...(asked.cluster === undefined ? {} : { cluster: asked.cluster }),
              ...(asked.policy === undefined ? {} : { policy: asked.policy }),
              ...(asked.text === undefined ? {} : { text: asked.text }),
              ...(pageParam === "" ? {} : { cursor: pageParam }),
            },
          },
          signal,
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next ?? undefined,
    placeholderData: keepPreviousData,
    refetchInterval: useRefresh(),
  });

export type BulkAction = "acknowledge" | "resolve" | "silence";

export interface BulkResult {
  readonly done: number;
  readonly failed: number;
  readonly why: string;
}

/** One action on several incidents, one after the other; what failed does not stop the rest. */
export function useBulk() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async ({ incidents, action, seconds }: { incidents: readonly Incident[]; action: BulkAction; seconds: number }): Promise<BulkResult> => {
      let done = 0;
      let why = "";
      for (const i of incidents) {
        try {
          await act(i, action, seconds);
          done++;
        } catch (error) {
          why = error instanceof Error ? error.message : String(error);
        }
      }
      return { done, failed: incidents.length - done, why };
    },
    onSettled: () => Promise.all([queries.invalidateQueries({ queryKey: ["incidents"] }), queries.invalidateQueries({ queryKey: ["incident"] }), queries.invalidateQueries({ queryKey: ["silences"] })]),
  });
}

async function act(i: Incident, action: BulkAction, seconds: number): Promise<void> {
  const params = { path: { id: i.id } };
  if (action === "acknowledge") await body(client.POST("/apis/crowsnest.dev/v1/incidents/{id}/acknowledge", { params, body: {} }));
  else if (action === "resolve") await body(client.POST("/apis/crowsnest.dev/v1/incidents/{id}/resolve", { params, body: {} }));
  else {
    const now = new Date();
    const name = `${silenceName(i.object.workload ?? i.object.node ?? i.object.pod ?? "incident", now)}-${i.id.slice(-6).toLowerCase()}`;
    await body(
      client.POST("/apis/crowsnest.dev/v1/silences", {
        body: { apiVersion: "crowsnest.dev/v1", kind: "Silence", metadata: { name }, spec: { matchers: silenceMatchers(i), until: new Date(now.getTime() + seconds * 1000).toISOString(), comment: i.title } },
      }),
    );
  }
}
