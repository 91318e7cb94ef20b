import { keepPreviousData, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { body, client } from "@/api/client";
import { type ClusterId, keys } from "@/api/keys";
import { queryLogs } from "@/api/logsql";
import { queryInstant, selector } from "@/api/prometheus";
import { useRange, useRefresh } from "@/parts/page";
import { useWorstFirst } from "@/parts/worstFirst";
import { resolveRange } from "@/ui/time";
import type { LogForm, Settings } from "./rules";

/** As many pods as a table of a whole cluster holds. */
export const maxPods = 2000;

/** The worst pods of a cluster whose names, places or reasons have all words. */
export const useWorstPods = (cluster: ClusterId, search: string, first: boolean) =>
  useWorstFirst({
    key: keys.worstPods(cluster, search),
    ask: (limit, signal) =>
      body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/pods", { params: { path: { cluster }, query: { limit, ...(search.trim() === "" ? {} : { search }) } }, signal })),
    limit: maxPods,
    first,
  });

export const useIngest = (cluster: ClusterId) =>
  useQuery({
    queryKey: keys.ingest(cluster),
    queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/ingest", { params: { path: { cluster } }, signal })),
    refetchInterval: useRefresh(),
    retry: false,
  });

const settingsQuery = (cluster: ClusterId) => ({
  queryKey: keys.settings(cluster),
  queryFn: ({ signal }: { signal: AbortSignal }) => body(client.GET("/apis/crowsnest.dev/v1/clusters/{cluster}/settings", { params: { path: { cluster } }, signal })),
});

/** What a cluster's collectors are told, and what they made of it. */
export const useSettings = (cluster: ClusterId) => useQuery({ ...settingsQuery(cluster), refetchInterval: useRefresh() });

export const useCollectors = (cluster: ClusterId) => useQuery({ ...settingsQuery(cluster), select: (s) => s.collectors, refetchInterval: useRefresh() });

/** Tells the collectors of a cluster something else, made from a version; `form` is what it was read from. */
export function useChangeSettings(cluster: ClusterId) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: ({ version, settings }: { version: number; settings: Settings; form: LogForm }) => body(client.PUT("/apis/crowsnest.dev/v1/clusters/{cluster}/settings", { params: { path: { cluster } }, body: { version, settings } })),
    // After a conflict too: somebody else's are there.
    onSettled: () => queries.invalidateQueries({ queryKey: keys.settings(cluster) }),
  });
}

/** Over this many seconds lines are counted: long enough to be even, short enough to cost nothing. */
export const lineSeconds = 300;

/** How many lines a cluster writes a second, and how many bytes of text. */
export const useLineRate = (cluster: ClusterId) =>
  useQuery({
    queryKey: keys.lineRate(cluster),
    queryFn: async ({ signal }) => {
      const now = Math.floor(Date.now() / 1000);
      const [row] = await queryLogs(`${selectorOf(cluster)} | stats count() lines, sum_len(_msg) bytes`, now - lineSeconds, now, 1, signal);
      return { lines: Number(row?.lines ?? 0) / lineSeconds, bytes: Number(row?.bytes ?? 0) / lineSeconds };
    },
    refetchInterval: useRefresh(),
  });

const selectorOf = (cluster: string) => `cluster:=${JSON.stringify(cluster)}`;

export interface SourceChange {
  readonly name: string;
  readonly times: number;
  /** In per cent of the chosen time. */
  readonly up: number;
}

/** Which sources failed or came back in the page's range. */
export const useSourceChanges = (cluster: ClusterId) => {
  const range = useRange();
  return useQuery({
    queryKey: keys.sourceChanges(cluster, range.from, range.to),
    queryFn: async ({ signal }): Promise<SourceChange[]> => {
      const { start, end } = resolveRange(range, Math.floor(Date.now() / 1000));
      const series = `crowsnest_source_up${selector({ cluster })}[${Math.max(60, Math.round(end - start))}s]`;
      const at = Math.round(end);
      const [changed, shares] = await Promise.all([queryInstant(`topk(50, changes(${series}) > 0)`, signal, at), queryInstant(`100 * avg_over_time(${series}) < 100`, signal, at)]);
      const key = (l: Readonly<Record<string, string>>) => [l.source, l.node].filter(Boolean).join("/");
      const share = new Map(shares.map((s) => [key(s.labels), s.value]));
      return changed.map((s) => ({ name: key(s.labels), times: s.value, up: share.get(key(s.labels)) ?? 100 })).sort((a, b) => a.up - b.up || b.times - a.times);
    },
    refetchInterval: useRefresh(),
    placeholderData: keepPreviousData,
  });
};

export const useStatus = () =>
  useQuery({ queryKey: keys.status(), queryFn: ({ signal }) => body(client.GET("/apis/crowsnest.dev/v1/status", { signal })), staleTime: 30_000 });
